//! JSON that keeps the order of its keys, and refuses a key that stands twice: in a GraphQL answer both matter.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Null,
    Leaf(Value),
    List(Vec<Answer>),
    Object(Vec<(String, Answer)>),
}

impl Answer {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("{error} in the answer {text}"))
    }

    /// A key's value; null where there is none.
    pub(crate) fn get(&self, key: &str) -> &Self {
        match self {
            Self::Object(entries) => entries.iter().find(|(name, _)| name == key).map_or(&Self::Null, |(_, value)| value),
            _ => &Self::Null,
        }
    }

    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Leaf(value) => value.as_u64(),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Leaf(value) => value.as_str(),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Answer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E: Error>(self) -> Result<Answer, E> {
                Ok(Answer::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Answer, E> {
                Ok(Answer::Leaf(value.into()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Answer, E> {
                Ok(Answer::Leaf(value.into()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Answer, E> {
                Ok(Answer::Leaf(value.into()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Answer, E> {
                Ok(Answer::Leaf(value.into()))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Answer, E> {
                Ok(Answer::Leaf(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Answer, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Answer::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Answer, A::Error> {
                let mut object: Vec<(String, Answer)> = Vec::new();
                while let Some((key, value)) = entries.next_entry::<String, Answer>()? {
                    if object.iter().any(|(other, _)| *other == key) {
                        return Err(A::Error::custom(format!("the key {key:?} stands twice in one object")));
                    }
                    object.push((key, value));
                }
                Ok(Answer::Object(object))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
