//! What is wrong with the parts of one thing, all of it: a user hears of everything at once.

/// A field below the thing and what is wrong with it.
pub(super) type Fault = (String, String);

/// Everything that is wrong.
#[derive(Debug, Default)]
pub(super) struct Faults(pub Vec<Fault>);

impl Faults {
    /// A part, or nothing in its place.
    pub(super) fn of<T: Default>(&mut self, part: Result<T, Fault>) -> T {
        part.unwrap_or_else(|fault| {
            self.0.push(fault);
            T::default()
        })
    }

    /// The whole, if nothing is wrong with it.
    pub(super) fn or<T>(self, whole: T) -> Result<T, Vec<Fault>> {
        if self.0.is_empty() {
            Ok(whole)
        } else {
            Err(self.0)
        }
    }
}
