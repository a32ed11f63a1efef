//! Edits of responses that come again and again, told to JavaScript by a number.
//!
//! What a configuration sets is the same on every response, and to bring it from the module's memory into a JavaScript string costs
//! more than to decide that it is set. So an edit whose value is the very same allocation as that of an earlier response gets a
//! number, under which JavaScript asks for it once.
//!
//! Limits: [`KEPT`] numbers; what does not get one travels as text. A value that was made for one response never gets one: it is
//! gone before another could be its like.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

/// Numbers at most.
const KEPT: usize = 256;
/// Values that were seen once, and are remembered for being seen again.
const SEEN: usize = KEPT;

/// What is set, and to what.
struct Edit {
    operation: char,
    name: Rc<str>,
    value: Rc<[u8]>,
}

/// The edits that have a number.
#[derive(Default)]
pub struct Recurring {
    kept: RefCell<Vec<Edit>>,
    seen: RefCell<Vec<Weak<[u8]>>>,
}

impl Recurring {
    /// The edit's number, if it has one.
    pub fn find(&self, operation: char, name: &Rc<str>, value: &Rc<[u8]>) -> Option<usize> {
        let same =
            |edit: &Edit| Rc::ptr_eq(&edit.value, value) && edit.operation == operation && edit.name == *name;
        self.kept.borrow().iter().position(same)
    }

    /// The edit has none, and travels as text. If that happened before, it has one from now on.
    pub fn note(&self, operation: char, name: &Rc<str>, value: &Rc<[u8]>) {
        let mut kept = self.kept.borrow_mut();
        // A value that nobody else holds was made for this response.
        if kept.len() >= KEPT || Rc::strong_count(value) < 2 {
            return;
        }
        let mut seen = self.seen.borrow_mut();
        let before = seen.iter().position(|old| std::ptr::addr_eq(old.as_ptr(), Rc::as_ptr(value)));
        if let Some(place) = before {
            seen.remove(place);
            kept.push(Edit { operation, name: Rc::clone(name), value: Rc::clone(value) });
            return;
        }
        if seen.len() >= SEEN {
            seen.remove(0);
        }
        seen.push(Rc::downgrade(value));
    }

    /// Hands out what has a number: the operation, the name, the value.
    pub fn read<T>(&self, number: usize, take: impl FnOnce(char, &str, &[u8]) -> T) -> Option<T> {
        let kept = self.kept.borrow();
        kept.get(number).map(|edit| take(edit.operation, &edit.name, &edit.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_gets_a_number_and_its_like_does_not() {
        let recurring = Recurring::default();
        let (name, held): (Rc<str>, Rc<[u8]>) = ("x-a".into(), b"value"[..].into());
        let set = |operation, value: &Rc<[u8]>| {
            let found = recurring.find(operation, &name, value);
            if found.is_none() {
                recurring.note(operation, &name, value);
            }
            found
        };
        for _ in 0..3 {
            assert_eq!(set('s', &b"value"[..].into()), None);
        }
        let shared = Rc::clone(&held);
        assert_eq!([set('s', &shared), set('s', &shared), set('s', &held)], [None, None, Some(0)]);
        // The same value by another operation is another edit.
        assert_eq!([set('a', &held), set('a', &held), set('a', &held)], [None, None, Some(1)]);
        assert_eq!(set('s', &b"value"[..].into()), None);
        let read = recurring.read(1, |operation, name, value| (operation, name.to_owned(), value.to_vec()));
        assert_eq!(read, Some(('a', "x-a".to_owned(), b"value".to_vec())));
        assert_eq!(recurring.read(2, |_, _, _| ()), None);
    }

    #[test]
    fn there_is_an_end() {
        let recurring = Recurring::default();
        let name: Rc<str> = "x-a".into();
        let values: Vec<Rc<[u8]>> = (0..KEPT + 50).map(|n| n.to_string().into_bytes().into()).collect();
        for value in &values {
            let shared = Rc::clone(value);
            (0..2).for_each(|_| recurring.note('s', &name, &shared));
        }
        let last = values.iter().filter_map(|value| recurring.find('s', &name, value)).max();
        assert_eq!(last, Some(KEPT - 1));
        assert!(recurring.seen.borrow().len() <= SEEN);
    }
}
