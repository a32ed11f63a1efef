//! How sure a grammatical run makes us.

use super::lexer::Lexer;
use super::run::{Operand, Run};

impl Run {
    /// The confidence and the structure behind it; 0 for nothing.
    pub(super) fn score(&self, lexer: &Lexer<'_>) -> (u8, &'static str) {
        let mut best = (0, "");
        let mut offer = |holds: bool, confidence: u8, why: &'static str| {
            if holds && confidence > best.0 {
                best = (confidence, why);
            }
        };
        // A sentence about SQL: it goes on in words where a statement would end, and nothing before broke out of anything.
        let told = self.prose
            && !self.quoted
            && !self.stacked
            && !self.union
            && !self.weapon
            && !self.statement
            && lexer.comments == 0;
        if told && (self.first != Operand::Constant || self.select && self.from) {
            return (50, "sentence");
        }
        let q = self.quoted;
        let out = q || self.stacked || self.closed || self.first == Operand::Constant;
        let whole = !self.broken && !self.dangling;
        if self.clause_first && self.broken && !q && !self.select && self.known + self.reveal == 0 {
            return (45, "sentence");
        }
        let tail = self.tail == Some(true);
        let hard = self.calls + self.variables + self.numbers + self.texts > 0 || self.star;
        let joins = self.logic + self.compare + self.arith > 0;

        offer(self.union && (hard || self.commas > 0 || self.tail.is_some()), 95, "union-select");
        offer(self.union, 75, "union-select");
        offer(self.union_end, 75, "union");
        offer(self.glued && (self.from || self.calls > 0 || self.star), 85, "subselect");
        offer(self.statement, if out { 92 } else { 72 }, "statement");
        offer(self.weapon && (out || joins || self.select), 95, "weapon-function");
        // `sleep(8) hours a night`: a sentence goes on in words.
        offer(self.weapon, if self.broken && !q { 60 } else { 80 }, "weapon-function");
        offer(self.outfile, if out { 90 } else { 75 }, "into-file");
        offer(self.subselect && joins && (hard || self.from), 90, "subselect");
        self.score_conditions(&mut offer, out, whole, tail, hard);
        self.score_break(&mut offer, lexer, whole, tail);
        offer(self.server_variable && whole && !q && self.length == 1, 74, "server-variable");
        let plain = self.names == 0 && !q && !self.stacked;
        offer(plain && self.commas == 0 && hard && whole && tail && lexer.bare_tail, 72, "comment");
        self.score_select(&mut offer, out, whole);
        offer(self.catalogue && self.length >= 3 && (self.from || joins), 80, "catalogue");
        offer(lexer.conditional > 0 && self.length >= 2, 80, "conditional-comment");
        offer(
            lexer.odd > 1 && self.known + self.logic + u16::from(self.select) + u16::from(self.from) > 1,
            80,
            "odd-spacing",
        );
        offer(lexer.comments > 1 && self.known + u16::from(self.select) > 0 && joins, 75, "comment-spacing");
        best
    }

    /// `this "or" that`: a quoted word of logic, and a sentence that goes on.
    fn is_sentence(&self) -> bool {
        self.sentence && self.length <= 2
    }

    /// Conditions: tautologies, blind probes.
    fn score_conditions(
        &self,
        offer: &mut impl FnMut(bool, u8, &'static str),
        out: bool,
        whole: bool,
        tail: bool,
        hard: bool,
    ) {
        let q = self.quoted;
        // `if (a || b) return`: another language's.
        let known = self.known - u16::from(self.conditional && self.commas == 0 && self.known > 0);
        let named = self.first == Operand::Name && !out && self.reveal + self.variables == 0;
        let calls =
            if self.known > known || named && known == 0 { self.calls.saturating_sub(1) } else { self.calls };
        let probe = known > 0 || self.reveal > 0 || self.variables > 0;
        // `5 > 3 and 2 < 4` is arithmetic; behind a value of its own, or with an equals sign, it is a condition.
        let arithmetic = !q && !self.stacked && self.compared_first && self.equal == 0;
        offer(self.logic > 0 && self.constants && !arithmetic, 92, "known-condition");
        offer(
            self.truth && self.first == Operand::Constant && self.numbers == 1 && whole && !q,
            72,
            "known-condition",
        );
        offer(self.condition && self.constants && out, 90, "known-condition");
        offer(self.having && out && self.numbers > 1, 80, "having");
        offer(self.having && self.constant_logic && whole, 75, "having");
        offer(self.having && out && (self.compare > 0 || self.calls > 0 || tail), 88, "having");
        offer(self.logic > 0 && self.compare > 0 && (calls > 0 || self.variables > 0), 90, "probe");
        offer(self.logic > 0 && self.compare > 0 && q, 85, "condition");
        // `0 < x <= 10 and x != 5`: a condition on a name of the sentence's own.
        let bounded =
            !q && !self.stacked && self.compared_first && !self.constants && self.names > 1 && calls == 0;
        let bounded = bounded && self.texts == 0 && self.compare > 2;
        offer(self.logic > 0 && self.compare > 0 && out && hard && !arithmetic && !bounded, 75, "condition");
        offer(self.logic > 0 && probe && out, 75, "probe");
        offer(self.logic > 0 && tail && hard && whole, 78, "condition-comment");
        offer(self.logic > 0 && q && (self.open || tail) && whole && !self.is_sentence(), 88, "condition");
        offer(self.logic > 0 && q && whole && hard, 60, "condition");
        offer(self.constants && q && (tail || self.open) && !self.is_sentence(), 85, "known-condition");
        offer(
            self.constants && self.word_compare && whole && !q && self.numbers == 2 && self.length == 3,
            72,
            "known-condition",
        );
        offer(self.constants && self.closed, 75, "known-condition");
        offer(self.constants && self.known > 0, 72, "known-condition");
        offer(self.case && self.constants, 75, "case");
        offer(self.case && whole && self.numbers + self.texts > 1, 72, "case");
        let open_start = self.first != Operand::Name && self.known > 0 && self.numbers > 0;
        offer(self.logic > 0 && open_start && self.names == 0 && whole, 72, "probe");
        offer(self.closed && self.from && self.condition && self.compare > 0, 80, "condition");
        offer(self.order && out && self.numbers + self.calls > 0 && tail, 85, "order-by");
        offer(self.order && out && (self.commas > 0 || self.numbers > 1 || q) && whole, 75, "order-by");
        offer(self.order && out && tail, 75, "order-by");
        offer(self.logic > 0 && self.first == Operand::Constant && whole && hard, 45, "condition");
    }

    /// What shows that the value closes a string of the statement and goes on behind it.
    fn score_break(
        &self,
        offer: &mut impl FnMut(bool, u8, &'static str),
        lexer: &Lexer<'_>,
        whole: bool,
        tail: bool,
    ) {
        let joins = self.logic + self.compare + self.arith;
        if !self.quoted {
            offer(self.reveal > 0 && self.known > 1 && whole, 72, "probe");
            offer(self.variables > 1 && self.texts > 1 && self.arith > 2, 72, "built-string");
            offer(
                self.known > 2 && self.calls > 2 && self.logic + self.texts > 0 && joins > 0 && whole,
                75,
                "built-string",
            );
            offer(joins > 0 && tail && whole && self.calls + self.variables > 0, 72, "comment");
            return;
        }
        offer(joins > 0 && self.open && whole && !self.is_sentence(), 78, "string-break");
        offer(joins > 0 && tail && whole, 78, "string-break");
        offer(joins > 0 && self.subselect, 90, "subselect");
        offer(joins > 0 && self.reveal > 0, 85, "string-break");
        offer(tail && self.length <= 4 && whole, 80, "comment");
        offer(self.more && self.closed, 55, "string-break");
        offer(self.more && self.length == 0 && lexer.ends_bare(), 74, "comment");
        offer(self.alias && self.condition, 85, "string-break");
    }

    /// A statement of its own in a place where a value belongs.
    fn score_select(&self, offer: &mut impl FnMut(bool, u8, &'static str), out: bool, whole: bool) {
        if !self.select || self.union {
            return;
        }
        let told = self.calls > 0 || self.star || self.variables > 0 || self.catalogue;
        offer(
            out && (told || self.numbers > 0) && (self.quoted || self.stacked || self.subselect),
            88,
            "select",
        );
        offer(told && (self.from || self.reveal + self.known > 0), 80, "select");
        offer(self.numbers > 1 && self.commas > 0, 75, "select");
        offer(self.from && self.compare > 0 && (self.numbers + self.texts > 0), 80, "select");
        offer(self.from && self.subselect && self.known > 0, 75, "select");
        offer(self.from && self.commas > 0 && whole, 70, "select");
        offer(self.from && whole && (self.tail.is_some() || self.more), 70, "select");
        offer(self.from && self.condition && self.numbers + self.texts > 0, 72, "select");
        offer(self.from && self.subselect && self.numbers + self.texts > 0 && whole, 75, "select");
        offer(self.from && whole, 45, "select");
    }
}
