//! The one rule for reading JSON that other programs wrote [spec:copies.documents]: `null` means absent, fields that
//! are not used may have any type, a number may have any form, and of a key that is there twice the last value counts. A
//! byte order mark is skipped. Digests and sizes have types of their own and stay strict.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses a document, with or without a byte order mark.
///
/// # Errors
/// If it is not JSON, or a field that decides something has the wrong type.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes))
}

/// Returns a text without a byte order mark.
#[must_use]
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// An object whose fields are read one by one.
pub trait ReadFields<'de>: Default {
    /// Reads the value of a key. Returns false, and reads nothing, if the key is not used.
    ///
    /// # Errors
    /// If the value has the wrong type and decides something.
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads an object.
///
/// # Errors
/// If it is no object, or [`ReadFields::read_field`] refuses a field.
pub fn read_object<'de, T: ReadFields<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Fields<T>(PhantomData<T>);
    impl<'de, T: ReadFields<'de>> Visitor<'de> for Fields<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            read_fields(map)
        }
    }
    deserializer.deserialize_map(Fields(PhantomData))
}

/// Reads the fields of an object, e.g. in [`LenientValue::from_object`].
///
/// # Errors
/// If [`ReadFields::read_field`] refuses a field, or the JSON is damaged.
pub fn read_fields<'de, T: ReadFields<'de>, A: MapAccess<'de>>(mut map: A) -> Result<T, A::Error> {
    let mut fields = T::default();
    while let Some(Key(key)) = map.next_key()? {
        if !fields.read_field(&key, &mut map)? {
            map.next_value::<IgnoredAny>()?;
        }
    }
    Ok(fields)
}

/// A key, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Implements [`ReadFields`] and `Deserialize` for a type with defaults, from its keys and fields. Each field's type is
/// a [`LenientValue`].
#[macro_export]
macro_rules! lenient_object {
    ($type:ty { $($key:literal => $field:ident),* $(,)? }) => {
        impl<'de> $crate::lenient::ReadFields<'de> for $type {
            fn read_field<A: ::serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> ::std::result::Result<bool, A::Error> {
                match key {
                    $($key => self.$field = $crate::lenient::next_value(map)?,)*
                    _ => return ::std::result::Result::Ok(false),
                }
                ::std::result::Result::Ok(true)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> ::std::result::Result<$type, D::Error> {
                $crate::lenient::read_object(deserializer)
            }
        }
    };
}

/// Reads the value of the current key of an object.
///
/// # Errors
/// If the value has the wrong type and decides something.
pub fn next_value<'de, T: LenientValue<'de>, A: MapAccess<'de>>(map: &mut A) -> Result<T, A::Error> {
    map.next_value::<Lenient<T>>().map(|Lenient(value)| value)
}

/// A value that is its type's default where the document has `null`.
#[derive(Debug, Clone, Default)]
pub struct Lenient<T>(pub T);

/// A type that is read by the rule of this module. Every method returns the default unless the type says otherwise.
pub trait LenientValue<'de>: Default {
    /// Reads a value of a type that none of the other methods takes: a wrong one.
    ///
    /// # Errors
    /// If the type decides something, so that no default may take its place.
    fn from_other<E: Error>() -> Result<Self, E> {
        Ok(Self::default())
    }

    /// Reads a number that is not negative and has no fraction.
    ///
    /// # Errors
    /// As for [`LenientValue::from_other`].
    fn from_number<E: Error>(_number: u64) -> Result<Self, E> {
        Self::from_other()
    }

    /// Reads a text.
    ///
    /// # Errors
    /// As for [`LenientValue::from_other`].
    fn from_text<E: Error>(_text: &str) -> Result<Self, E> {
        Self::from_other()
    }

    /// Reads a list.
    ///
    /// # Errors
    /// As for [`LenientValue::from_other`], or if the JSON is damaged.
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Self::from_other()
    }

    /// Reads an object.
    ///
    /// # Errors
    /// As for [`LenientValue::from_other`], or if the JSON is damaged.
    fn from_object<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Self::from_other()
    }
}

impl<'de, T: LenientValue<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lenient<T>, D::Error> {
        struct Value<T>(PhantomData<T>);
        impl<'de, T: LenientValue<'de>> Visitor<'de> for Value<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E: Error>(self) -> Result<T, E> {
                Ok(T::default())
            }

            fn visit_bool<E: Error>(self, _value: bool) -> Result<T, E> {
                T::from_other()
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
                T::from_number(value)
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
                u64::try_from(value).map_or_else(|_| T::from_other(), T::from_number)
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
                whole(value).map_or_else(T::from_other, T::from_number)
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
                T::from_text(value)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
                T::from_list(list)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::from_object(map)
            }
        }
        deserializer.deserialize_any(Value(PhantomData)).map(Lenient)
    }
}

/// Returns a number without a fraction that is exact in 64 bits.
fn whole(value: f64) -> Option<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range and the fraction are checked"
    )]
    let number = (value.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&value)).then_some(value as u64);
    number
}

impl LenientValue<'_> for String {
    fn from_text<E: Error>(text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

impl LenientValue<'_> for Option<String> {
    fn from_text<E: Error>(text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }
}

impl LenientValue<'_> for Option<u64> {
    fn from_number<E: Error>(number: u64) -> Result<Option<u64>, E> {
        Ok(Some(number))
    }

    /// Reads the decimal digits of a number, also as `1.0` or `1e3`.
    fn from_text<E: Error>(text: &str) -> Result<Option<u64>, E> {
        let text = text.trim();
        let parsed = text.parse().ok();
        Ok(parsed.or_else(|| text.parse::<f64>().ok().and_then(whole)))
    }
}

/// A list of texts. Other elements are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl<'de> LenientValue<'de> for Texts {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(Lenient(text)) = list.next_element::<Lenient<Option<String>>>()? {
            texts.extend(text);
        }
        Ok(Texts(texts))
    }
}

/// Tells a list that is absent from an empty one.
impl<'de> LenientValue<'de> for Option<Texts> {
    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Texts>, A::Error> {
        Texts::from_list(list).map(Some)
    }
}

/// Tells a list that is absent from an empty one.
impl<'de, T: Deserialize<'de>> LenientValue<'de> for Option<Vec<T>> {
    fn from_other<E: Error>() -> Result<Option<Vec<T>>, E> {
        Vec::from_other().map(Some)
    }

    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Vec<T>>, A::Error> {
        Vec::from_list(list).map(Some)
    }
}

/// A list whose elements decide something: each has to be right.
impl<'de, T: Deserialize<'de>> LenientValue<'de> for Vec<T> {
    fn from_other<E: Error>() -> Result<Vec<T>, E> {
        Err(E::custom("a list is needed here"))
    }

    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Vec<T>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(elements)
    }
}

/// A map of texts, e.g. annotations. Values of other types are left out.
impl<'de> LenientValue<'de> for BTreeMap<String, String> {
    fn from_object<A: MapAccess<'de>>(mut map: A) -> Result<BTreeMap<String, String>, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, Lenient(value))) = map.next_entry::<String, Lenient<Option<String>>>()? {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Sample {
        text: String,
        number: Option<u64>,
        texts: Texts,
        list: Vec<u8>,
        map: BTreeMap<String, String>,
    }

    lenient_object!(Sample { "text" => text, "number" => number, "texts" => texts, "list" => list, "map" => map });

    fn read(json: &str) -> Result<Sample, serde_json::Error> {
        from_slice(json.as_bytes())
    }

    #[test]
    fn null_and_unused_fields_are_as_if_absent() {
        for json in [
            "{}",
            "\u{feff}{}",
            r#"{"text":null,"number":null,"texts":null,"list":null,"map":null}"#,
            r#"{"text":7,"number":[],"texts":{},"map":[1,{"a":[]}]}"#,
            r#"{"text":"a","text":null,"map":{"a":"b"},"map":{}}"#,
            r#"{"map":{"a":1,"b":null,"c":[],"a":{}},"texts":[null,1,{}]}"#,
            r#"{"other":{"text":1},"Text":1e999,"another":[[[]]]}"#,
        ] {
            assert_eq!(read(json).unwrap(), Sample::default(), "{json}");
        }
    }

    #[test]
    fn numbers_are_read_in_every_form_and_the_last_value_counts() {
        for number in [
            "1000",
            "1000.0",
            "1e3",
            "1E+3",
            "\"1000\"",
            "\"1e3\"",
            "7,\"number\":1000",
        ] {
            let found = read(&format!(r#"{{"number":{number}}}"#)).unwrap();
            assert_eq!(found.number, Some(1000), "{number}");
        }
        for number in ["-1", "1.5", "1e300", "true", "\"x\"", "\"-1\"", "18446744073709551616"] {
            let found = read(&format!(r#"{{"number":{number}}}"#)).unwrap();
            assert_eq!(found.number, None, "{number}");
        }
    }

    #[test]
    fn what_decides_something_has_to_be_right() {
        for json in [
            r#"{"list":{}}"#,
            r#"{"list":"a"}"#,
            r#"{"list":[null]}"#,
            "[]",
            "{",
            r#"{"text":}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
