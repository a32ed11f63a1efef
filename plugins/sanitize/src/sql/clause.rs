//! Clauses and statements that a run of tokens goes on with.

use super::grammar::Step;
use super::lexer::{Kind, Lexer, Token};
use super::run::{Operand, Pending, Run};
use super::statement::{is_phrase, is_statement};
use super::words::Word;
use crate::bytes::{at, between, from, starts};

/// Whether a name follows, and then nothing but what may end a statement.
fn names_table(lexer: &Lexer<'_>) -> bool {
    let mut ahead = lexer.clone();
    matches!(ahead.next().kind, Kind::Name | Kind::Word(Word::Catalogue))
        && matches!(
            ahead.next().kind,
            Kind::End | Kind::Tail(_) | Kind::Semi | Kind::Dot | Kind::Word(Word::Limit | Word::Order)
        )
}

impl Run {
    pub(super) fn union_select(&mut self, lexer: &mut Lexer<'_>) -> Step {
        for _ in 0..16 {
            let token = lexer.next();
            match token.kind {
                Kind::Word(Word::Glue)
                    if starts(from(lexer.value(), token.start), b"values")
                        && self.gives_rows(lexer, token.end) =>
                {
                    self.union = true;
                    return self.violate();
                }
                // MySQL 8: `union table t`.
                Kind::Word(Word::Thing)
                    if starts(from(lexer.value(), token.start), b"table")
                        && (self.quoted || self.first == Operand::Constant)
                        && names_table(lexer) =>
                {
                    self.union = true;
                    return self.violate();
                }
                Kind::Word(Word::Prefix) | Kind::Left => {}
                Kind::Arith if matches!(at(lexer.value(), token.start), b'-' | b'+') => {}
                Kind::End | Kind::Tail(_) | Kind::Semi => {
                    self.union_end = !self.quoted && self.first == Operand::Constant;
                    return self.violate();
                }
                Kind::Word(Word::Select) => {
                    self.union = true;
                    self.select = true;
                    self.list_start = true;
                    self.in_from = false;
                    return self.expect(Pending::Clause);
                }
                Kind::Number => {
                    self.statement |=
                        self.first == Operand::Constant && matches!(lexer.clone().next().kind, Kind::Comma);
                    return self.violate();
                }
                _ => return self.violate(),
            }
        }
        self.violate()
    }

    /// `(1, 2)`, or `row(1, 2)`.
    fn gives_rows(&self, lexer: &Lexer<'_>, end: usize) -> bool {
        let rest = from(lexer.value(), end).trim_ascii_start();
        self.calls_next(lexer) || starts(rest, b"row") && from(rest, 3).trim_ascii_start().starts_with(b"(")
    }

    pub(super) fn order_by(&mut self, lexer: &mut Lexer<'_>) -> Step {
        if !matches!(lexer.next().kind, Kind::Word(Word::By)) {
            return self.violate();
        }
        self.order = true;
        self.in_from = false;
        self.expect(Pending::Clause)
    }

    /// A name behind an operand: an alias, where one may stand; else two words of prose.
    pub(super) fn alias(&mut self, after_right: bool, lexer: &Lexer<'_>) -> Step {
        let allowed = self.in_from || after_right || self.select && self.last != Operand::Name;
        let next = lexer.clone().next().kind;
        let ends = matches!(
            next,
            Kind::Comma
                | Kind::Right
                | Kind::End
                | Kind::Tail(_)
                | Kind::Semi
                | Kind::Word(_)
                | Kind::Compare
        );
        if allowed && ends && self.length > 0 { Step::Go } else { self.violate() }
    }

    pub(super) fn statement_at(&mut self, token: Token, lexer: &mut Lexer<'_>) -> Step {
        let word = between(lexer.value(), token.start, token.end);
        let bare = self.length == 0 && !self.quoted && !self.stacked;
        if is_statement(word, lexer.clone()) && !(bare && is_phrase(word, lexer.clone())) {
            self.statement = true;
        }
        self.violate()
    }
}
