//! An object as the server gave it, from text to what is kept of it.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::kinds::Kind;
use super::trim::{before_reading, trim};
use crate::model::{Place, Problem};
use crate::objects::{Located, SLICE_KIND, ServedSlice, read_served, read_served_slice};

/// Namespace and name.
pub(super) type Key = (Arc<str>, Arc<str>);

/// An object that the server has, or had.
#[derive(Debug)]
pub(super) struct Item {
    pub key: Key,
    /// `metadata.resourceVersion`; `None` if it is not there.
    pub version: Option<String>,
    /// What is kept of it, if it could be read.
    pub located: Option<Located>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl Item {
    /// Reads an object of a kind in one of its versions. Items of a list need not say of which.
    ///
    /// # Errors
    /// It is no JSON.
    pub(super) fn read(
        text: &RawValue,
        kind: &Kind,
        version: &str,
        place: &Place,
    ) -> Result<Self, serde_json::Error> {
        let is_slice = (kind.group, kind.kind) == SLICE_KIND;
        let slice = is_slice.then(|| read_served_slice(text.get(), place));
        if let Some(slice) = slice.flatten() {
            return Ok(Self::from(slice));
        }
        let mut value: Value = serde_json::from_str(text.get())?;
        if let Value::Object(fields) = &mut value {
            fields.insert("apiVersion".into(), kind.api_version(version).into());
            fields.insert("kind".into(), kind.kind.into());
        }
        Ok(Self::of_value(value, place))
    }

    fn of_value(mut value: Value, place: &Place) -> Self {
        before_reading(&mut value);
        let text = |path| value.pointer(path).and_then(Value::as_str);
        let name = |path| text(path).unwrap_or_default().into();
        let key = (name("/metadata/namespace"), name("/metadata/name"));
        let version = text("/metadata/resourceVersion").map(str::to_owned);
        let parsed = read_served(value, place.clone());
        let mut problems = parsed.problems;
        problems.shrink_to_fit();
        let located = parsed.objects.into_iter().next().map(|mut located| {
            trim(&mut located.object);
            located
        });
        Self {
            key,
            version,
            located,
            problems,
        }
    }
}

impl From<ServedSlice> for Item {
    fn from(slice: ServedSlice) -> Self {
        let id = &slice.located.id;
        Self {
            key: (Arc::clone(&id.namespace), Arc::clone(&id.name)),
            version: Some(slice.version),
            located: Some(slice.located),
            problems: Vec::new(),
        }
    }
}
