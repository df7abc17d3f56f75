//! JSON objects that are objects.
//!
//! What serde derives for a struct takes a list of its fields' values as well, in their order. Here a list is a mistake: it
//! would mean something else as soon as a field is added.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a `T` from an object, and from nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, fields: M) -> Result<Object<T>, M::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads a list of objects, for `#[serde(deserialize_with)]`.
pub fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|Object(value)| value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Point<'a> {
        x: u8,
        name: &'a str,
    }

    #[test]
    fn a_list_is_no_object() {
        let read = |json| serde_json::from_str::<Object<Point<'_>>>(json).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"x":1,"name":"a"}"#), Ok(Object(Point { x: 1, name: "a" })));
        assert_eq!(read(r#"[1,"a"]"#), Err("invalid type: sequence, expected an object at line 1 column 0".to_owned()));
        assert_eq!(read("null"), Err("invalid type: null, expected an object at line 1 column 4".to_owned()));
    }

    #[test]
    fn a_list_of_objects_holds_nothing_else() {
        let read = |json| list::<Point<'_>, _>(&mut serde_json::Deserializer::from_str(json));
        assert_eq!(read(r#"[{"x":1,"name":"a"}]"#).unwrap(), [Point { x: 1, name: "a" }]);
        assert!(read(r#"[{"x":1,"name":"a"},[2,"b"]]"#).is_err());
    }
}
