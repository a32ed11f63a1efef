//! Reads tokens as the continuation of an SQL expression and notes what it does.

use super::lexer::{Kind, Lexer, Token};
use super::run::{Entry, Operand, Pending, Run};
use super::statement::{boolean_mode, names_in_prose, splices, takes_apart};
use super::words::Word;
use crate::bytes::{at, between, from, is_space, starts};

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

    /// Takes a token where an operand may stand; `None` when it cannot be one.
    fn take_operand(
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
                self.complete(Operand::Variable)
            }
            Kind::Name => self.name(lexer),
            Kind::Left => {
                self.depth += 1;
                self.after_left = true;
                if matches!(lexer.clone().next().kind, Kind::Word(Word::Select)) {
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
            Kind::Cast => self.expect(Pending::Clause),
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
            Word::Compare => {
                if boolean_mode(lexer) {
                    return Step::Go;
                }
                self.between = starts(between(lexer.value(), token.start, token.end), b"between");
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
