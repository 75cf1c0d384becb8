//! Which fields a type accepts at a path, asked of the type itself.
//!
//! `Deserialize` tells its fields to the deserializer: this one walks down a path, notes them at
//! its end, and fails. It reads no value.

use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Error;

/// A step of a field path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Into a field.
    Key(String),
    /// Into an item.
    Index(usize),
}

/// Renders a path as in `spec.rules[0].name`.
pub(super) fn render(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The fields that `T` has at `path`; empty where that cannot be told.
pub(super) fn fields<T: DeserializeOwned>(path: &[Step]) -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    let probe = Probe {
        path,
        found: &mut found,
    };
    // Always fails: a probe holds no values.
    drop(T::deserialize(probe));
    found
}

struct Probe<'a> {
    path: &'a [Step],
    found: &'a mut &'static [&'static str],
}

fn stop<T>() -> Result<T, Error> {
    Err(de::Error::custom("a probe holds no values"))
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        stop()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.path.is_empty() {
            *self.found = fields;
            return stop();
        }
        visitor.visit_map(Walk(Some(self)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Walk(Some(self)))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Walk(Some(self)))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

/// One step down, then the end.
struct Walk<'a>(Option<Probe<'a>>);

impl<'de> MapAccess<'de> for Walk<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(Step::Key(key)) = self.0.as_ref().and_then(|probe| probe.path.first()) else {
            return Ok(None);
        };
        seed.deserialize(StringDeserializer::<Error>::new(key.clone()))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.0.take().map_or_else(stop, |probe| {
            seed.deserialize(Probe {
                path: &probe.path[1..],
                found: probe.found,
            })
        })
    }
}

impl<'de> SeqAccess<'de> for Walk<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        match self.0.take() {
            Some(Probe {
                path: [Step::Index(_), path @ ..],
                found,
            }) => seed.deserialize(Probe { path, found }).map(Some),
            _ => Ok(None),
        }
    }
}
