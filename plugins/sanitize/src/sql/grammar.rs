//! Reads tokens as the continuation of an SQL expression and notes what it does.

use super::lexer::{Kind, Lexer, Token};
use super::run::{Entry, Operand, Pending, Run};
use super::statement::{boolean_mode, is_prose, names_in_prose};
use super::words::Word;
use crate::bytes::{at, between, from, starts};

pub(super) enum Step {
    Go,
    Stop,
}

impl Run {
    /// Reads on until the grammar breaks, a statement ends or the value does.
    pub(super) fn read(lexer: &mut Lexer<'_>, entry: Entry) -> Self {
        let mut run = Self { stacked: entry == Entry::Stacked, operand: true, ..Self::default() };
        match entry {
            Entry::Broke => {
                run.quoted = true;
                run.first = Operand::Constant;
                run.last = Operand::Constant;
                run.operand = false;
            }
            Entry::Union => {
                run.union = true;
                run.select = true;
                run.list_start = true;
            }
            Entry::Bare | Entry::Stacked => {}
        }
        loop {
            let token = lexer.next();
            match run.step(token, lexer) {
                Step::Go => run.length += 1,
                Step::Stop => break,
            }
        }
        run
    }

    /// Where to read on behind this run: behind a semicolon, or at a `UNION SELECT` further on. What a real parser
    /// would call an error may stand before them: the value is only a part of the statement, and quotes in it may be
    /// escaped by the application.
    pub(super) fn next_entry(&self, lexer: &mut Lexer<'_>) -> Option<Entry> {
        if self.more {
            return Some(Entry::Stacked);
        }
        if !self.broken {
            return None;
        }
        loop {
            match lexer.next().kind {
                Kind::End | Kind::Tail(_) | Kind::Open => return None,
                Kind::Semi => return Some(Entry::Stacked),
                Kind::Word(Word::Union) => {
                    let mut probe = Self::default();
                    probe.union_select(lexer);
                    if probe.union {
                        return Some(Entry::Union);
                    }
                }
                _ => {}
            }
        }
    }

    fn step(&mut self, token: Token, lexer: &mut Lexer<'_>) -> Step {
        if self.length == 0 {
            self.clause_first = matches!(token.kind, Kind::Word(Word::Where | Word::When));
        }
        let step = self.take(token, lexer);
        if self.broken && matches!(token.kind, Kind::Name | Kind::Word(_)) {
            self.prose = is_prose(lexer, token);
        }
        step
    }

    fn take(&mut self, token: Token, lexer: &mut Lexer<'_>) -> Step {
        match token.kind {
            Kind::End => {
                self.dangling = self.operand && self.length > 0;
                return Step::Stop;
            }
            Kind::Tail(quiet) => {
                self.tail = Some(quiet);
                self.dangling = self.operand && self.length > 0;
                return Step::Stop;
            }
            Kind::Semi => {
                self.more = true;
                self.dangling = self.operand && self.length > 0;
                return Step::Stop;
            }
            Kind::Other => return self.violate(),
            _ => {}
        }
        let after_right = std::mem::take(&mut self.after_right);
        let after_left = std::mem::take(&mut self.after_left);
        let list_start = std::mem::take(&mut self.list_start);
        let after_word = std::mem::take(&mut self.after_compare_word);
        if !self.operand {
            return self.operator(token, lexer, after_right);
        }
        match self.take_operand(token, lexer, after_left, list_start, after_word) {
            Some(step) => step,
            // A bare value may begin in the middle of an expression: ` or 1=1`, `) union select ...`.
            None if self.length == 0 || self.first == Operand::None && self.closed => {
                self.operand = false;
                self.operator(token, lexer, false)
            }
            None => self.violate(),
        }
    }

    pub(super) fn violate(&mut self) -> Step {
        self.broken = true;
        Step::Stop
    }

    pub(super) fn expect(&mut self, pending: Pending) -> Step {
        self.operand = true;
        self.pending = pending;
        Step::Go
    }

    /// Takes a token where an operator may stand.
    fn operator(&mut self, token: Token, lexer: &mut Lexer<'_>, after_right: bool) -> Step {
        match token.kind {
            Kind::Compare => {
                self.compared_first |= self.logic == 0;
                let sign = between(lexer.value(), token.start, token.end);
                self.equal += u16::from(!matches!(sign, b"<" | b">"));
                self.compare += 1;
                self.expect(Pending::Compare)
            }
            Kind::Arith => {
                self.arith += 1;
                self.expect(Pending::Arith)
            }
            Kind::Logic => {
                self.logic += 1;
                self.expect(Pending::Logic)
            }
            Kind::Comma => {
                self.commas += 1;
                self.list_start = self.select;
                self.expect(Pending::Clause)
            }
            Kind::Right => {
                // One more than was opened closes one of the statement's own.
                self.depth -= 1;
                self.closed |= self.length == 0 || self.depth < 0 && self.last == Operand::Constant;
                self.after_right = true;
                Step::Go
            }
            Kind::Left if matches!(lexer.clone().next().kind, Kind::Word(Word::Select)) => {
                self.depth += 1;
                self.subselect = true;
                self.glued |= self.length <= 8;
                self.expect(Pending::Clause)
            }
            // Strings side by side are one: `x' '1`.
            Kind::Text
                if self.quoted
                    && self.length == 0
                    && at(lexer.value(), token.start) == at(lexer.value(), token.start.wrapping_sub(1)) =>
            {
                self.texts += 1;
                Step::Go
            }
            Kind::Dot if self.last == Operand::Name || self.last == Operand::Call => {
                self.expect(Pending::Clause)
            }
            // The type's name follows.
            Kind::Cast => {
                lexer.next();
                Step::Go
            }
            Kind::Name => self.alias(after_right, lexer),
            Kind::Word(word) => self.operator_word(word, token, lexer, after_right),
            _ => self.violate(),
        }
    }

    fn operator_word(&mut self, word: Word, token: Token, lexer: &mut Lexer<'_>, after_right: bool) -> Step {
        match word {
            Word::Logic if std::mem::take(&mut self.between) => self.expect(Pending::Clause),
            Word::Logic => {
                self.logic += 1;
                self.expect(Pending::Logic)
            }
            Word::Arith => {
                self.arith += 1;
                self.expect(Pending::Arith)
            }
            Word::Not if matches!(lexer.clone().next().kind, Kind::Word(Word::Compare)) => Step::Go,
            // MySQL's `match a against ('b')`; elsewhere it is a word of ordinary text.
            Word::Compare
                if token.end - token.start == 7
                    && starts(from(lexer.value(), token.start), b"against")
                    && !self.calls_next(lexer) =>
            {
                self.violate()
            }
            Word::Compare
                if token.end - token.start == 2
                    && starts(from(lexer.value(), token.start), b"in")
                    && !self.calls_next(lexer)
                    && !boolean_mode(&mut lexer.clone()) =>
            {
                self.violate()
            }
            // `1 and 1 is 2`: SQL compares with `is` to NULL and to truth alone, but for SQLite's.
            Word::Compare
                if !self.quoted
                    && !self.stacked
                    && starts(from(lexer.value(), token.start), b"is")
                    && token.end - token.start == 2
                    && !matches!(
                        lexer.clone().next().kind,
                        Kind::Word(Word::Not | Word::Constant | Word::Suffix | Word::Prefix) | Kind::Left
                    ) =>
            {
                self.violate()
            }
            Word::Compare => {
                if boolean_mode(lexer) {
                    return Step::Go;
                }
                self.between = starts(between(lexer.value(), token.start, token.end), b"between");
                self.word_compare |= self.last == Operand::Constant && token.end - token.start > 2;
                self.equal += 1;
                self.compare += 1;
                self.after_compare_word = true;
                self.expect(Pending::Compare)
            }
            Word::Union => self.union_select(lexer),
            Word::From => {
                if !self.quoted && !self.stacked && names_in_prose(lexer) {
                    return self.violate();
                }
                self.from = true;
                self.in_from = true;
                self.expect(Pending::Clause)
            }
            Word::Where => {
                self.condition = true;
                self.in_from = false;
                self.expect(Pending::Clause)
            }
            Word::Having => {
                self.having = true;
                self.expect(Pending::Clause)
            }
            Word::Order => self.order_by(lexer),
            Word::Limit | Word::Glue | Word::When => {
                self.in_from = false;
                self.expect(Pending::Clause)
            }
            Word::Into => {
                if matches!(lexer.clone().next().kind, Kind::Word(Word::Outfile)) {
                    lexer.next();
                    self.outfile = true;
                }
                self.expect(Pending::Clause)
            }
            Word::As => {
                self.alias = true;
                self.expect(Pending::Clause)
            }
            Word::Case if self.pending == Pending::None => self.expect(Pending::Clause),
            Word::End | Word::Suffix => Step::Go,
            // PostgreSQL's and SQLite's `x isnull`.
            Word::Function
                if token.end - token.start == 6
                    && starts(from(lexer.value(), token.start), b"isnull")
                    && !self.calls_next(lexer) =>
            {
                Step::Go
            }
            Word::Procedure => {
                self.statement |= self.quoted || self.first == Operand::Constant;
                self.expect(Pending::Clause)
            }
            Word::Select if self.after_break() => {
                self.select = true;
                self.list_start = true;
                self.expect(Pending::Clause)
            }
            Word::Verb | Word::Exec | Word::Waitfor | Word::If => self.statement_at(token, lexer),
            _ if after_right || self.in_from => self.alias(after_right, lexer),
            _ => self.violate(),
        }
    }

    /// Whether nothing but the break and closing parentheses came before.
    fn after_break(&self) -> bool {
        self.logic == 0 && self.compare == 0 && self.arith == 0 && self.names == 0
    }
}
