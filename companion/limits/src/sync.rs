//! The one lock that threads meet at; under the feature `shuttle` a model checker takes its place.

#[cfg(not(feature = "shuttle"))]
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(feature = "shuttle")]
use shuttle::sync::{Mutex, MutexGuard};
#[cfg(feature = "shuttle")]
use std::sync::PoisonError;

/// Held until dropped.
pub type Guard<'a, T> = MutexGuard<'a, T>;

/// A mutex that a panic elsewhere does not close: every step leaves a whole state behind.
#[derive(Debug)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Around `value`.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for it.
    pub fn lock(&self) -> Guard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
