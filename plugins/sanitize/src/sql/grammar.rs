//! Reads tokens as the continuation of an SQL expression and notes what it does.

use super::lexer::{Kind, Lexer, Token};
use super::words::Word;
use crate::bytes::{at, between, starts};

/// What the last operand was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Operand {
    /// None yet.
    #[default]
    None,
    /// A number or string: known without the database.
    Constant,
    /// A column, table or whatever a name may be.
    Name,
    /// A variable.
    Variable,
    /// A function's result.
    Call,
}

/// The operator between the last operand and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Pending {
    #[default]
    None,
    Compare,
    Logic,
    Arith,
    /// A comma or a clause's word.
    Clause,
}

/// What a grammatical run of tokens holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    /// It begins behind a quote that the value closed.
    pub quoted: bool,
    /// It begins behind a semicolon.
    pub stacked: bool,
    pub first: Operand,
    pub logic: u16,
    pub compare: u16,
    pub arith: u16,
    /// Two constants were compared: a condition whose outcome the attacker knows.
    pub constants: bool,
    /// The operator before the last operand compared or combined.
    pub joined: bool,
    pub calls: u16,
    pub numbers: u16,
    pub texts: u16,
    pub names: u16,
    pub variables: u16,
    pub commas: u16,
    pub star: bool,
    pub select: bool,
    pub subselect: bool,
    pub union: bool,
    pub from: bool,
    pub condition: bool,
    pub order: bool,
    pub having: bool,
    pub outfile: bool,
    pub alias: bool,
    pub case: bool,
    pub known: u16,
    pub weapon: bool,
    pub reveal: u16,
    pub catalogue: bool,
    /// A statement of its own that changes things or runs code.
    pub statement: bool,
    /// Parentheses that were closed before anything else happened.
    pub closed: bool,
    /// A word or sign broke the grammar.
    pub broken: bool,
    /// The last token is a string that the statement's own quote will close.
    pub open: bool,
    /// The rest of the statement was commented out; whether nothing follows.
    pub tail: Option<bool>,
    /// An operator still waited for its operand.
    pub dangling: bool,
    /// A semicolon ended it: more may follow.
    pub more: bool,
    /// Tokens that kept the grammar.
    pub length: u32,
    last: Operand,
    pending: Pending,
    operand: bool,
    in_from: bool,
    after_right: bool,
    after_compare_word: bool,
    after_left: bool,
    list_start: bool,
}

/// How the text before a run left the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The value stands bare.
    Bare,
    /// A quote that the value closed stands before.
    Broke,
    /// A semicolon stands before.
    Stacked,
    /// `UNION SELECT` stands before.
    Union,
}

enum Step {
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

    fn violate(&mut self) -> Step {
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
                self.open = self.length > 0;
                self.complete(Operand::Constant);
                return Some(Step::Stop);
            }
            Kind::Variable => {
                self.variables += 1;
                self.complete(Operand::Variable)
            }
            Kind::Name => self.name(lexer),
            Kind::Left => {
                self.after_left = true;
                if matches!(lexer.clone().next().kind, Kind::Word(Word::Select)) {
                    self.subselect = true;
                }
            }
            Kind::Right if after_left => self.complete(Operand::Call),
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

    fn operand_word(&mut self, word: Word, token: Token, lexer: &mut Lexer<'_>, after_word: bool) -> Option<Step> {
        match word {
            Word::Prefix => {
                self.known += 1;
                self.list_start = self.select;
            }
            Word::Not => {}
            Word::Compare if after_word => self.after_compare_word = true,
            Word::Constant => self.complete(Operand::Constant),
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
            Word::Function | Word::If if self.calls_next(lexer) => self.call(),
            Word::Reveal if self.calls_next(lexer) => {
                self.reveal += 1;
                self.call();
            }
            Word::Weapon if matches!(lexer.clone().next().kind, Kind::Left | Kind::Dot) => {
                self.weapon = true;
                self.name(lexer);
            }
            Word::Catalogue => {
                self.catalogue = true;
                self.name(lexer);
            }
            Word::Function | Word::Reveal | Word::Weapon | Word::Thing | Word::Suffix | Word::End => self.name(lexer),
            Word::Verb | Word::Exec | Word::Waitfor | Word::If if self.length == 0 || self.pending == Pending::None => {
                return Some(self.statement_at(token, lexer));
            }
            _ => return None,
        }
        Some(Step::Go)
    }

    fn calls_next(&self, lexer: &Lexer<'_>) -> bool {
        matches!(lexer.clone().next().kind, Kind::Left)
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
        if self.pending == Pending::Compare && operand == Operand::Constant && self.last == Operand::Constant {
            self.constants = true;
        }
        self.joined |= matches!(self.pending, Pending::Compare | Pending::Logic | Pending::Arith);
        self.last = operand;
    }

    fn complete(&mut self, operand: Operand) {
        self.note(operand);
        self.operand = false;
    }

    fn expect(&mut self, pending: Pending) -> Step {
        self.operand = true;
        self.pending = pending;
        Step::Go
    }

    /// Takes a token where an operator may stand.
    fn operator(&mut self, token: Token, lexer: &mut Lexer<'_>, after_right: bool) -> Step {
        match token.kind {
            Kind::Compare => {
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
                self.closed |= self.length == 0 || self.closed;
                self.after_right = true;
                Step::Go
            }
            Kind::Dot if self.last == Operand::Name || self.last == Operand::Call => self.expect(Pending::Clause),
            Kind::Cast => self.expect(Pending::Clause),
            Kind::Name => self.alias(after_right, lexer),
            Kind::Word(word) => self.operator_word(word, token, lexer, after_right),
            _ => self.violate(),
        }
    }

    fn operator_word(&mut self, word: Word, token: Token, lexer: &mut Lexer<'_>, after_right: bool) -> Step {
        match word {
            Word::Logic => {
                self.logic += 1;
                self.expect(Pending::Logic)
            }
            Word::Arith => {
                self.arith += 1;
                self.expect(Pending::Arith)
            }
            Word::Not if matches!(lexer.clone().next().kind, Kind::Word(Word::Compare)) => Step::Go,
            Word::Compare => {
                if boolean_mode(lexer) {
                    return Step::Go;
                }
                self.compare += 1;
                self.after_compare_word = true;
                self.expect(Pending::Compare)
            }
            Word::Union => self.union_select(lexer),
            Word::From => {
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

    fn union_select(&mut self, lexer: &mut Lexer<'_>) -> Step {
        for _ in 0..16 {
            match lexer.next().kind {
                Kind::Word(Word::Prefix) | Kind::Left => {}
                Kind::Word(Word::Select) => {
                    self.union = true;
                    self.select = true;
                    self.list_start = true;
                    self.in_from = false;
                    return self.expect(Pending::Clause);
                }
                Kind::Number => {
                    self.statement |= self.first == Operand::Constant && matches!(lexer.clone().next().kind, Kind::Comma);
                    return self.violate();
                }
                _ => return self.violate(),
            }
        }
        self.violate()
    }

    fn order_by(&mut self, lexer: &mut Lexer<'_>) -> Step {
        if !matches!(lexer.next().kind, Kind::Word(Word::By)) {
            return self.violate();
        }
        self.order = true;
        self.in_from = false;
        self.expect(Pending::Clause)
    }

    /// A name behind an operand: an alias, where one may stand; else two words of prose.
    fn alias(&mut self, after_right: bool, lexer: &Lexer<'_>) -> Step {
        let allowed = self.in_from || after_right || self.select && self.last != Operand::Name;
        let next = lexer.clone().next().kind;
        let ends = matches!(
            next,
            Kind::Comma | Kind::Right | Kind::End | Kind::Tail(_) | Kind::Semi | Kind::Word(_) | Kind::Compare
        );
        if allowed && ends && self.length > 0 { Step::Go } else { self.violate() }
    }

    fn statement_at(&mut self, token: Token, lexer: &mut Lexer<'_>) -> Step {
        let word = between(lexer.value(), token.start, token.end);
        if is_statement(word, lexer.clone()) {
            self.statement = true;
        }
        self.violate()
    }
}

fn boolean_mode(lexer: &mut Lexer<'_>) -> bool {
    let mut ahead = lexer.clone();
    let (first, second) = (ahead.next(), ahead.next());
    let words = between(lexer.value(), first.start, second.end);
    let found = starts(words, b"boolean") && words.to_ascii_lowercase().ends_with(b"mode");
    if found {
        *lexer = ahead;
    }
    found
}

/// Whether what follows a statement's first word is a statement rather than prose.
fn is_statement(word: &[u8], mut ahead: Lexer<'_>) -> bool {
    let value = ahead.value();
    let (first, second, third) = (ahead.next(), ahead.next(), ahead.next());
    let text = |token: Token| between(value, token.start, token.end);
    let is = |token: Token, words: &[&str]| words.iter().any(|w| text(token).eq_ignore_ascii_case(w.as_bytes()));
    let ends = |token: Token| matches!(token.kind, Kind::End | Kind::Tail(_) | Kind::Semi | Kind::Word(Word::End));
    let name = |token: Token| matches!(token.kind, Kind::Name | Kind::Word(_));
    let objects = [
        "table", "database", "view", "user", "function", "index", "schema", "procedure", "trigger", "login", "role",
        "type", "temporary", "temp", "or", "alias", "proc", "global", "column", "session", "system",
    ];
    match word.to_ascii_lowercase().as_slice() {
        b"insert" | b"merge" => is(first, &["into"]) && name(second) && !name(third) || is(first, &["into"]) && is(third, &["values", "select", "set"]),
        b"delete" => is(first, &["from"]) && name(second) && (ends(third) || is(third, &["where"]) || third.kind == Kind::Dot),
        b"update" => name(first) && (is(second, &["set"]) || second.kind == Kind::Dot || is(ahead.next(), &["set"])),
        b"drop" | b"create" | b"alter" | b"truncate" | b"rename" => {
            is(first, &objects) && name(second) && (!name(third) || third.kind != Kind::Name || is(second, &["replace", "if"]))
        }
        b"declare" => first.kind == Kind::Variable,
        b"begin" => matches!(first.kind, Kind::Word(Word::Verb | Word::Exec | Word::Select | Word::Weapon | Word::Waitfor)),
        b"shutdown" => ends(first) || is(first, &["with", "end"]),
        b"grant" | b"revoke" => is(second, &["to", "on", "from"]) || second.kind == Kind::Comma,
        b"load" => is(first, &["data", "xml"]) || first.kind == Kind::Text,
        b"attach" => is(first, &["database"]),
        b"handler" => is(second, &["open", "read"]),
        b"do" => matches!(first.kind, Kind::Word(Word::Weapon)) && second.kind == Kind::Left,
        b"copy" => is(second, &["from", "to"]) || first.kind == Kind::Left,
        b"show" => is(first, &["tables", "databases", "grants", "variables", "columns"]) && (ends(second) || is(second, &["from", "like", "for"])),
        b"use" => name(first) && second.kind == Kind::Semi,
        b"exec" | b"execute" | b"call" => {
            starts(text(first), b"xp_")
                || starts(text(first), b"sp_")
                || matches!(first.kind, Kind::Left | Kind::Variable | Kind::Text | Kind::Word(Word::Weapon))
                || is(first, &["as", "immediate"])
                || name(first) && matches!(second.kind, Kind::Dot | Kind::Text | Kind::Left | Kind::Variable)
        }
        b"waitfor" => is(first, &["delay", "time"]) && !name(second),
        b"if" => first.kind == Kind::Left && matches!(second.kind, Kind::Left | Kind::Number | Kind::Text | Kind::Word(_)),
        _ => false,
    }
}
