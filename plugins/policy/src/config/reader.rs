//! Reads a JSON value into a type, and tells where it failed. Enumerations are names; a variant that
//! holds something is an object with its name as the only key.
//!
//! The crate serde_path_to_error does the same around any format; around this one format it is a seventh of its size, and
//! size is what a module's readers pay for.

use std::cell::RefCell;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
    value::{BorrowedStrDeserializer, MapAccessDeserializer, StrDeserializer},
};
use serde_json::{Error, Value};

/// One step down into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To the value under a key.
    Key(String),
    /// To an element, counted from 0.
    Index(usize),
}

/// What went wrong, and the way there.
#[derive(Debug)]
pub struct ReadError {
    /// What serde says.
    pub problem: String,
    /// From the top to the offending key or value.
    pub path: Vec<Step>,
}

/// Reads `value`.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, ReadError> {
    let failed = RefCell::new(None);
    let here = Here { value, way: Way::Top, failed: &failed };
    T::deserialize(here).map_err(|error| ReadError {
        problem: error.to_string(),
        path: failed.into_inner().unwrap_or_default(),
    })
}

/// The way from the top, as a list that lives on the stack.
#[derive(Clone, Copy)]
enum Way<'a> {
    Top,
    Key(&'a Way<'a>, &'a str),
    Index(&'a Way<'a>, usize),
}

impl Way<'_> {
    fn steps(&self) -> Vec<Step> {
        let (mut steps, last) = match self {
            Self::Top => return Vec::new(),
            Self::Key(before, key) => (before.steps(), Step::Key((*key).to_owned())),
            Self::Index(before, index) => (before.steps(), Step::Index(*index)),
        };
        steps.push(last);
        steps
    }
}

/// A value and the way to it.
struct Here<'de, 'w> {
    value: &'de Value,
    way: Way<'w>,
    failed: &'w RefCell<Option<Vec<Step>>>,
}

impl<'de> Here<'de, '_> {
    /// Reads what lies below: the only step down, and so the one place where an error's place is known.
    fn below<T: DeserializeSeed<'de>>(
        &self,
        value: &'de Value,
        way: Way<'_>,
        seed: T,
    ) -> Result<T::Value, Error> {
        let result = seed.deserialize(Here { value, way, failed: self.failed });
        self.note(way, result)
    }

    /// Notes the place of an error, unless a deeper one was noted.
    fn note<T>(&self, way: Way<'_>, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err()
            && let Ok(mut failed) = self.failed.try_borrow_mut()
        {
            failed.get_or_insert_with(|| way.steps());
        }
        result
    }
}

impl<'de> Deserializer<'de> for Here<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(list) => visitor.visit_seq(Elements { of: &self, list: list.iter().enumerate() }),
            Value::Object(object) => {
                visitor.visit_map(Members { of: &self, members: object.iter(), open: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::String(name) => visitor.visit_enum(StrDeserializer::new(name)),
            Value::Object(object) if object.len() == 1 => {
                let members = Members { of: &self, members: object.iter(), open: None };
                visitor.visit_enum(MapAccessDeserializer::new(members))
            }
            _ => Err(Error::custom("is not a name; write one in quotes")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The elements of a list.
struct Elements<'h, 'de, 'w> {
    of: &'h Here<'de, 'w>,
    list: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.list.next() else { return Ok(None) };
        self.of.below(value, Way::Index(&self.of.way, index), seed).map(Some)
    }
}

/// The members of an object.
struct Members<'h, 'de, 'w> {
    of: &'h Here<'de, 'w>,
    members: serde_json::map::Iter<'de>,
    open: Option<(&'de String, &'de Value)>,
}

impl<'de> MapAccess<'de> for Members<'_, 'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.open = self.members.next();
        let Some((key, _)) = self.open else { return Ok(None) };
        let result = seed.deserialize(BorrowedStrDeserializer::new(key));
        self.of.note(Way::Key(&self.of.way, key), result).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        match self.open.take() {
            Some((key, value)) => self.of.below(value, Way::Key(&self.of.way, key), seed),
            None => Err(Error::custom("a value without a key")),
        }
    }
}
