//! Tokens of a limit that all proxies share, as far as this process has them in hand.
//!
//! The companion has debited them before it granted them. The process spends them without asking, asks for more when less
//! than half is left, and gives back what it does not need before the lease ends. It never holds a token that the
//! companion does not count as out:
//!
//! - An ask says what is held, and has a sequence that rises. An answer counts only if no other ask was made since; the
//!   companion takes what a later ask did not name as held for spent.
//! - A lease ends, by the process's clock, earlier than by the companion's: it runs from when the ask was sent.
//! - What was given back has left the slot before the ask leaves.
//! - A lost answer changes nothing: its tokens are gone until time refills them.

use crate::set::Tag;

const MS_NS: u64 = 1_000_000;
const US_NS: u64 = 1_000;
/// An ask that was not answered for so long may be made again.
pub const ASK_NS: u64 = 2_000_000_000;
/// The most that one ask asks for.
pub const MOST: u32 = (1 << 24) - 1;
/// A lease longer than this is taken to be so long (lengths of time come from outside).
const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;

/// A lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lease {
    pub(crate) tag: Tag,
    balance: u32,
    expires_ms: u64,
    /// What was last asked for: it doubles while it is used up, and halves when it is not.
    size: u32,
    /// Of the last ask: microseconds of the monotonic clock, so that it rises even when the entry was forgotten.
    sequence: u64,
    asked: bool,
    /// Until then the companion has none.
    dry_until_ms: u64,
}

/// What became of spending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// It is spent; `renew` when it is time to ask for more.
    Yes {
        /// Less than half is left, and no ask is on its way.
        renew: bool,
    },
    /// There is not enough in hand.
    No,
    /// There is not enough, and the companion has none for so long.
    NoneFor(u64),
}

/// What an ask says of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Tokens in hand.
    pub held: u32,
    /// Tokens asked for.
    pub want: u32,
    /// Tokens given back.
    pub give_back: u32,
    /// Rises from ask to ask.
    pub sequence: u64,
}

/// What the companion answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Of those held, how many may be kept.
    pub keep: u32,
    /// How many come on top.
    pub granted: u32,
    /// For how long, from when the ask was sent.
    pub expires_ms: u64,
    /// When there was none: how long until there is one.
    pub retry_after_ms: u64,
}

impl Lease {
    /// Of a key that has none.
    pub fn new(tag: Tag) -> Self {
        Self { tag, ..Self::default() }
    }

    /// Tokens in hand.
    pub fn balance(&self, now_ns: u64) -> u32 {
        if self.expires_ms.saturating_mul(MS_NS) > now_ns { self.balance } else { 0 }
    }

    /// When it ends.
    pub fn expires_ns(&self) -> u64 {
        self.expires_ms.saturating_mul(MS_NS)
    }

    /// The last ask's number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether nothing would be lost by forgetting it.
    pub fn is_over(&self, now_ns: u64) -> bool {
        self.balance(now_ns) == 0
            && !self.is_asked(now_ns)
            && self.dry_until_ms.saturating_mul(MS_NS) <= now_ns
            && self.expires_ns() <= now_ns
    }

    fn is_asked(&self, now_ns: u64) -> bool {
        self.asked && now_ns < self.sequence.saturating_mul(US_NS).saturating_add(ASK_NS)
    }

    /// Spends tokens.
    pub fn spend(&mut self, cost: u32, now_ns: u64) -> Spent {
        if let Some(rest) = self.balance(now_ns).checked_sub(cost) {
            self.balance = rest;
            let low = self.size > 1 && rest.saturating_mul(2) < self.size;
            return Spent::Yes { renew: low && !self.is_asked(now_ns) };
        }
        match self.dry_until_ms.saturating_mul(MS_NS).checked_sub(now_ns) {
            Some(wait) if wait > 0 => Spent::NoneFor(wait),
            _ => Spent::No,
        }
    }

    /// Puts tokens back that were spent since the ask of that number; what was spent before it is gone.
    pub fn refund(&mut self, cost: u32, sequence: u64, now_ns: u64) {
        if self.sequence == sequence && self.balance(now_ns) == self.balance {
            self.balance = self.balance.saturating_add(cost);
        }
    }

    /// Asks for `need` tokens or more, at most `most`; `None` while an ask is on its way.
    pub fn ask(&mut self, need: u32, most: u32, now_ns: u64) -> Option<Asked> {
        if self.is_asked(now_ns) {
            return None;
        }
        let most = most.clamp(1, MOST);
        let in_use = self.expires_ns() > now_ns;
        self.balance = self.balance(now_ns);
        let low = self.balance.saturating_mul(2) < self.size;
        let size = match (in_use, low) {
            (true, true) => self.size.saturating_mul(2),
            (true, false) => self.size,
            (false, _) => self.size / 2,
        };
        self.size = size.clamp(1, most);
        let want = self.size.saturating_sub(self.balance).max(need.min(MOST));
        Some(self.sent(want, 0, now_ns))
    }

    /// Whether nothing was spent since the last ask.
    pub fn is_unused(&self, now_ns: u64) -> bool {
        self.balance(now_ns) >= self.size
    }

    /// Gives back all that is in hand; `None` when there is nothing, or an ask is on its way.
    pub fn give_back(&mut self, now_ns: u64) -> Option<Asked> {
        if self.is_asked(now_ns) || self.balance(now_ns) == 0 {
            return None;
        }
        let all = std::mem::take(&mut self.balance);
        Some(self.sent(0, all, now_ns))
    }

    fn sent(&mut self, want: u32, give_back: u32, now_ns: u64) -> Asked {
        self.sequence = self.sequence.saturating_add(1).max(now_ns / US_NS);
        self.asked = true;
        Asked { held: self.balance, want, give_back, sequence: self.sequence }
    }

    /// Takes the answer to the ask of that number; false when another ask was made since, and it counts for nothing.
    pub fn answered(&mut self, sequence: u64, sent_ns: u64, now_ns: u64, grant: &Grant) -> bool {
        if sequence != self.sequence || !self.asked {
            return false;
        }
        self.asked = false;
        let sent_ms = sent_ns / MS_NS;
        self.balance = self.balance(now_ns).min(grant.keep).saturating_add(grant.granted);
        self.expires_ms = sent_ms.saturating_add(grant.expires_ms.min(LONGEST_MS)).min(MASK_40);
        let dry = grant.granted == 0 && self.balance == 0;
        let wait = if dry { grant.retry_after_ms.min(LONGEST_MS) } else { 0 };
        self.dry_until_ms = if wait > 0 { sent_ms.saturating_add(wait).min(MASK_40) } else { 0 };
        true
    }

    /// No answer will come to the ask of that number: another may be made.
    pub fn unanswered(&mut self, sequence: u64) {
        if self.sequence == sequence {
            self.asked = false;
        }
    }

    /// As four words.
    pub(crate) fn words(&self) -> [u64; 4] {
        [
            u64::from(self.tag.number()) | u64::from(self.balance) << 32,
            self.expires_ms.min(MASK_40) | u64::from(self.size.min(MOST)) << 40,
            self.sequence << 1 | u64::from(self.asked),
            self.dry_until_ms.min(MASK_40),
        ]
    }

    /// Of four words.
    #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
    pub(crate) fn of_words([first, second, third, fourth]: [u64; 4]) -> Self {
        Self {
            tag: Tag::of_number(first as u32),
            balance: (first >> 32) as u32,
            expires_ms: second & MASK_40,
            size: (second >> 40) as u32,
            sequence: third >> 1,
            asked: third & 1 == 1,
            dry_until_ms: fourth & MASK_40,
        }
    }
}

const MASK_40: u64 = (1 << 40) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn grant(keep: u32, granted: u32) -> Grant {
        Grant { keep, granted, expires_ms: 10_000, retry_after_ms: 3000 }
    }

    fn kept(lease: Lease) -> Lease {
        let back = Lease::of_words(lease.words());
        assert_eq!(back, lease);
        back
    }

    #[test]
    fn a_lease_is_spent_renewed_and_ends() {
        let mut lease = Lease::new(Tag::default());
        assert_eq!(lease.spend(1, S), Spent::No);
        let asked = lease.ask(1, 10, S).unwrap();
        assert_eq!((asked.held, asked.want, asked.give_back), (0, 1, 0));
        assert_eq!(lease.ask(1, 10, S + 1), None, "one is on its way");
        assert!(lease.answered(asked.sequence, S, S + 5, &grant(0, 1)));
        lease = kept(lease);
        // A lease of one is not renewed ahead: a key that is seldom used would hold tokens for nothing.
        assert_eq!(lease.spend(1, 2 * S), Spent::Yes { renew: false });
        let asked = lease.ask(1, 10, 3 * S).unwrap();
        assert_eq!(asked.want, 2, "it was used up in time");
        assert!(lease.answered(asked.sequence, 3 * S, 3 * S, &grant(0, 2)));
        assert_eq!(lease.spend(1, 4 * S), Spent::Yes { renew: false });
        assert_eq!(lease.spend(1, 4 * S), Spent::Yes { renew: true });
        let asked = lease.ask(1, 3, 5 * S).unwrap();
        assert_eq!(asked.want, 3, "twice as many, but not more than may be");
        assert!(lease.answered(asked.sequence, 5 * S, 6 * S, &grant(0, 3)));
        assert_eq!((lease.balance(15 * S - 1), lease.balance(15 * S)), (3, 0), "from when it was sent");
        assert_eq!(lease.spend(1, 15 * S), Spent::No);
        assert!(lease.is_over(15 * S) && !lease.is_over(15 * S - 1));
        assert_eq!(lease.ask(1, 10, 16 * S).unwrap().want, 1, "half of it: it was not used up");
    }

    #[test]
    fn an_answer_to_an_earlier_ask_counts_for_nothing() {
        let mut lease = Lease::new(Tag::default());
        let first = lease.ask(1, 10, S).unwrap();
        let second = lease.ask(1, 10, S + ASK_NS).unwrap();
        assert!(second.sequence > first.sequence);
        assert!(!lease.answered(first.sequence, S, 4 * S, &grant(0, 1)));
        assert!(lease.answered(second.sequence, S + ASK_NS, 4 * S, &grant(0, 1)));
        assert!(!lease.answered(second.sequence, S + ASK_NS, 4 * S, &grant(0, 1)), "nor twice");
        assert_eq!(lease.balance(5 * S), 1);
    }

    #[test]
    fn what_the_companion_does_not_keep_is_gone_and_what_is_spent_meanwhile_is_not_doubled() {
        let mut lease = Lease::new(Tag::default());
        let asked = lease.ask(4, 10, S).unwrap();
        assert_eq!(asked.want, 4);
        assert!(lease.answered(asked.sequence, S, S, &grant(0, 4)));
        let asked = lease.ask(1, 10, 2 * S).unwrap();
        assert_eq!(asked.held, 4);
        assert_eq!(lease.spend(3, 2 * S), Spent::Yes { renew: false });
        let mut other = lease;
        assert!(lease.answered(asked.sequence, 2 * S, 2 * S, &grant(4, 1)));
        assert_eq!(lease.balance(3 * S), 2);
        assert!(other.answered(asked.sequence, 2 * S, 2 * S, &grant(0, 1)));
        assert_eq!(other.balance(3 * S), 1);
    }

    #[test]
    fn when_there_is_none_it_is_not_asked_for_until_there_is() {
        let mut lease = Lease::new(Tag::default());
        let asked = lease.ask(1, 10, S).unwrap();
        assert!(lease.answered(asked.sequence, S, S, &grant(0, 0)));
        lease = kept(lease);
        assert_eq!(lease.spend(1, 2 * S), Spent::NoneFor(2 * S));
        assert_eq!(lease.spend(1, 4 * S), Spent::No);
    }

    #[test]
    fn what_is_given_back_has_left() {
        let mut lease = Lease::new(Tag::default());
        let asked = lease.ask(4, 10, S).unwrap();
        assert!(lease.answered(asked.sequence, S, S, &grant(0, 4)));
        let asked = lease.give_back(2 * S).unwrap();
        assert_eq!((asked.held, asked.want, asked.give_back), (0, 0, 4));
        assert_eq!(lease.spend(1, 2 * S), Spent::No);
        lease.unanswered(asked.sequence);
        assert_eq!(lease.give_back(2 * S), None);
    }

    #[test]
    fn a_refund_after_another_ask_is_dropped() {
        let mut lease = Lease::new(Tag::default());
        let asked = lease.ask(4, 10, S).unwrap();
        assert!(lease.answered(asked.sequence, S, S, &grant(0, 4)));
        let sequence = lease.sequence();
        assert!(matches!(lease.spend(2, 2 * S), Spent::Yes { .. }));
        lease.refund(1, sequence, 2 * S);
        assert_eq!(lease.balance(2 * S), 3);
        lease.ask(1, 10, 3 * S).unwrap();
        lease.refund(1, sequence, 3 * S);
        assert_eq!(lease.balance(3 * S), 3);
        lease.refund(1, lease.sequence(), 30 * S);
        assert_eq!(lease.balance(30 * S), 0, "and after its end");
    }
}
