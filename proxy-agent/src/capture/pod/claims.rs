//! Which pod has which network namespace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Pods by the cookie of their network namespace. Two pods in one could not be told apart by the
/// hooks, and the end of one would release the other.
#[derive(Debug, Default)]
pub(in crate::capture) struct Claims(Mutex<HashMap<u64, Arc<str>>>);

impl Claims {
    /// Answers the pod that has it, if that is another one.
    pub(super) fn claim(&self, cookie: u64, uid: &Arc<str>) -> Result<(), Arc<str>> {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = claims.entry(cookie).or_insert_with(|| Arc::clone(uid));
        if owner == uid {
            Ok(())
        } else {
            Err(Arc::clone(owner))
        }
    }

    pub(super) fn give_up(&self, cookie: u64) {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claims.remove(&cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_belongs_to_the_first_pod_until_it_gives_it_up() {
        let claims = Claims::default();
        let (first, second): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert_eq!(claims.claim(7, &first), Ok(()));
        assert_eq!(claims.claim(7, &first), Ok(()));
        assert_eq!(claims.claim(7, &second), Err(Arc::clone(&first)));
        assert_eq!(claims.claim(8, &second), Ok(()));
        claims.give_up(7);
        assert_eq!(claims.claim(7, &second), Ok(()));
    }
}
