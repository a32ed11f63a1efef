//! Tokens where an operand may stand, and what they tell of a run.

use super::grammar::Step;
use super::lexer::{Kind, Lexer, Token};
use super::run::{Operand, Pending, Run};
use super::statement::{splices, takes_apart, tells_of_server};
use super::words::Word;
use crate::bytes::{at, between, is_space};

impl Run {
    /// Takes a token where an operand may stand; `None` when it cannot be one.
    pub(super) fn take_operand(
        &mut self,
        token: Token,
        lexer: &mut Lexer<'_>,
        after_left: bool,
        list_start: bool,
        after_word: bool,
    ) -> Option<Step> {
        match token.kind {
            Kind::Number => {
                self.numbers += 1;
                self.complete(Operand::Constant)
            }
            Kind::Text => {
                self.texts += 1;
                self.complete(Operand::Constant)
            }
            Kind::Open => {
                let rest = between(lexer.value(), token.start + 1, token.end);
                self.open = self.length > 0;
                self.sentence = is_space(at(rest, 0)) && rest.iter().any(u8::is_ascii_alphabetic)
                    || at(lexer.value(), token.start) == b'"' && rest.trim_ascii().is_empty();
                self.sentence &= !splices(lexer.value(), token.start);
                self.complete(Operand::Constant);
                return Some(Step::Stop);
            }
            Kind::Variable => {
                self.variables += 1;
                // `@@version` and its like tell about the server.
                self.reveal += u16::from(at(lexer.value(), token.start + 1) == b'@');
                self.server_variable |= tells_of_server(between(lexer.value(), token.start, token.end));
                self.complete(Operand::Variable)
            }
            Kind::Name => self.name(lexer),
            Kind::Left => {
                self.depth += 1;
                self.after_left = true;
                let mut ahead = lexer.clone();
                if matches!(ahead.next().kind, Kind::Word(Word::Select)) && ahead.next().kind != Kind::Comma {
                    self.subselect = true;
                }
            }
            Kind::Right if after_left => {
                self.depth -= 1;
                self.complete(Operand::Call);
            }
            Kind::Right if self.first == Operand::None => self.closed = true,
            // `select *` and `count(*)`; else a sign, or an operator that has no operand on its left.
            Kind::Arith if (list_start || after_left) && at(lexer.value(), token.start) == b'*' => {
                self.star = true;
                self.complete(Operand::Name);
            }
            Kind::Arith if matches!(at(lexer.value(), token.start), b'+' | b'-') => {}
            Kind::Bang => {}
            Kind::Word(word) => return self.operand_word(word, token, lexer, after_word),
            _ => return None,
        }
        Some(Step::Go)
    }

    fn operand_word(
        &mut self,
        word: Word,
        token: Token,
        lexer: &mut Lexer<'_>,
        after_word: bool,
    ) -> Option<Step> {
        match word {
            Word::Prefix => {
                // `all`, `any`, `some`: words of ordinary text, unless a parenthesis follows.
                self.known += u16::from(self.calls_next(lexer));
                self.list_start = self.select;
            }
            Word::Not => {}
            // SQLite's operators are functions too: `like(a, b)`.
            Word::Compare | Word::Logic if !after_word && self.length > 0 && self.hugs_left(token, lexer) => {
                self.call();
            }
            Word::Union => return Some(self.union_select(lexer)),
            Word::Compare if after_word => self.after_compare_word = true,
            Word::Constant => {
                self.truth |= self.pending == Pending::Logic;
                self.complete(Operand::Constant);
            }
            // `SQL (SELECT, JOIN)`: a list of words.
            Word::Select if matches!(lexer.clone().next().kind, Kind::Comma | Kind::Right) => return None,
            Word::Select => {
                self.select = true;
                self.list_start = true;
                self.in_from = false;
                self.pending = Pending::Clause;
            }
            Word::Case => {
                self.case = true;
                self.pending = Pending::Clause;
            }
            Word::When if self.case => {}
            Word::Function | Word::If if self.calls_next(lexer) => {
                self.conditional |= word == Word::If;
                self.reveal += u16::from(takes_apart(lexer, token));
                self.call();
            }
            Word::Reveal if self.calls_next(lexer) => {
                self.reveal += 1;
                self.call();
            }
            // `sleep (8 hours)` is ordinary text.
            Word::Weapon
                if matches!(lexer.clone().next().kind, Kind::Left | Kind::Dot)
                    && (self.length > 0
                        || self.quoted
                        || self.hugs_left(token, lexer)
                        || at(lexer.value(), token.end) == b'.') =>
            {
                self.weapon = true;
                self.name(lexer);
            }
            Word::Catalogue => {
                // `mysql`, `master` and `sys` are words of their own; what belongs to them stands behind a dot.
                let own = token.end - token.start > 6;
                self.catalogue |= own || matches!(lexer.clone().next().kind, Kind::Dot);
                self.name(lexer);
            }
            Word::Function | Word::Reveal | Word::Weapon | Word::Thing | Word::Suffix | Word::End => {
                self.name(lexer)
            }
            Word::Verb | Word::Exec | Word::Waitfor | Word::If
                if self.length == 0 || self.pending == Pending::None =>
            {
                return Some(self.statement_at(token, lexer));
            }
            _ => return None,
        }
        Some(Step::Go)
    }

    pub(super) fn calls_next(&self, lexer: &Lexer<'_>) -> bool {
        matches!(lexer.clone().next().kind, Kind::Left)
    }

    /// Whether a parenthesis follows without white space, as behind a function's name.
    fn hugs_left(&self, token: Token, lexer: &Lexer<'_>) -> bool {
        at(lexer.value(), token.end) == b'('
    }

    /// A known function and its parenthesis.
    fn call(&mut self) {
        self.known += 1;
        self.calls += 1;
        self.note(Operand::Call);
    }

    /// A name, which is a function when a parenthesis follows.
    fn name(&mut self, lexer: &mut Lexer<'_>) {
        if self.calls_next(lexer) {
            self.calls += 1;
            self.note(Operand::Call);
            // Stays where an operand may stand: the parenthesis and the arguments come next.
            return;
        }
        self.names += 1;
        self.complete(Operand::Name);
    }

    fn note(&mut self, operand: Operand) {
        if self.first == Operand::None {
            self.first = operand;
        }
        if self.pending == Pending::Compare && operand == Operand::Constant && self.last == Operand::Constant
        {
            self.constants = true;
        }
        self.constant_logic |= self.pending == Pending::Logic && operand == Operand::Constant;
        self.joined |= matches!(self.pending, Pending::Compare | Pending::Logic | Pending::Arith);
        self.last = operand;
    }

    fn complete(&mut self, operand: Operand) {
        self.note(operand);
        self.operand = false;
    }
}
