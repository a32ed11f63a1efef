//! What a grammatical run of tokens is known to hold.

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
pub(super) enum Pending {
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
    /// The last word that compares is `BETWEEN`: its `AND` joins no conditions.
    pub between: bool,
    /// A comparison came before any logic.
    pub compared_first: bool,
    /// Comparisons but `<` and `>`.
    pub equal: u16,
    /// `or true`: a condition that needs no comparison.
    pub truth: bool,
    /// `and` or `or`, and a constant behind it.
    pub constant_logic: bool,
    pub calls: u16,
    pub numbers: u16,
    pub texts: u16,
    pub names: u16,
    pub variables: u16,
    pub commas: u16,
    pub star: bool,
    pub select: bool,
    pub subselect: bool,
    /// `(select` stands right behind an operand, with nothing between that would join them.
    pub glued: bool,
    pub union: bool,
    /// `UNION` is the last word behind a constant: the statement goes on with what follows the value.
    pub union_end: bool,
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
    /// Parentheses of the statement's own were closed.
    pub closed: bool,
    /// Parentheses opened and not closed.
    pub depth: i32,
    /// A word or sign broke the grammar.
    pub broken: bool,
    /// The last token is a string that the statement's own quote will close.
    pub open: bool,
    /// What stands in that string reads on like a sentence: `this "or" that`.
    pub sentence: bool,
    /// The rest of the statement was commented out; whether nothing follows.
    pub tail: Option<bool>,
    /// An operator still waited for its operand.
    pub dangling: bool,
    /// What broke the grammar reads on like a sentence.
    pub prose: bool,
    /// It begins with a word that a clause begins with: `where`, `when`.
    pub clause_first: bool,
    /// `if (`: a function only with commas, else a statement of other languages.
    pub conditional: bool,
    /// Two numbers were compared by a word: `1 rlike 1`.
    pub word_compare: bool,
    /// `@@version`.
    pub server_variable: bool,
    /// A semicolon ended it: more may follow.
    pub more: bool,
    /// Tokens that kept the grammar.
    pub length: u32,
    pub last: Operand,
    pub pending: Pending,
    pub operand: bool,
    pub in_from: bool,
    pub after_right: bool,
    pub after_compare_word: bool,
    pub after_left: bool,
    pub list_start: bool,
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
