//! The form of reports: a number that is not known is `null` in JSON, which has no NaN, and NaN in the page; long rows
//! of numbers are lists in JSON, and typed arrays in the page.

use crate::bootstrap::Estimate;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::OnceLock;
use ts_rs::TS;

/// A number, or `None` where it is not known.
pub mod number {
    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.unwrap_or(f64::NAN))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.filter(|value| !value.is_nan()))
    }
}

/// A row of numbers, to be written.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    Floats(&'a [f32]),
    Ids(&'a [u32]),
}

/// What stands for a row of numbers where it is not written as a list.
pub type Typed = fn(Row<'_>) -> Box<dyn erased_serde::Serialize>;

static TYPED: OnceLock<Typed> = OnceLock::new();

/// From now on rows of numbers are written as `typed` has them. The page's program says so once, when it starts.
pub fn write_rows_as(typed: Typed) {
    // A second start of the same program says the same.
    let _ = TYPED.set(typed);
}

/// `Vec<u32>`, a `Uint32Array` in the page.
pub mod ids {
    use super::{Row, Serialize, Serializer, TYPED};

    pub fn serialize<S: Serializer>(values: &[u32], to: S) -> Result<S::Ok, S::Error> {
        match TYPED.get() {
            Some(typed) => erased_serde::serialize(&*typed(Row::Ids(values)), to),
            None => values.serialize(to),
        }
    }
}

/// `Vec<f32>`, a `Float32Array` in the page.
pub mod floats {
    use super::{Deserialize, Deserializer, Row, Serialize, Serializer, TYPED};

    pub fn serialize<S: Serializer>(values: &[f32], to: S) -> Result<S::Ok, S::Error> {
        match TYPED.get() {
            Some(typed) => erased_serde::serialize(&*typed(Row::Floats(values)), to),
            None => values.serialize(to),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
        let values = Vec::<Option<f32>>::deserialize(from)?.into_iter();
        Ok(values.map(|value| value.unwrap_or(f32::NAN)).collect())
    }

    /// The same, where there may be none.
    pub mod optional {
        use super::{Deserializer, Serialize, Serializer};

        struct Floats<'a>(&'a [f32]);

        impl Serialize for Floats<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                super::serialize(self.0, to)
            }
        }

        pub fn serialize<S: Serializer>(
            values: &Option<Vec<f32>>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            values.as_deref().map(Floats).serialize(to)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Vec<f32>>, D::Error> {
            super::deserialize(from).map(Some)
        }
    }
}

/// An estimate under the names that its kind has in reports, its numbers unknown where there is none.
macro_rules! named_estimate {
    ($name:ident, $value:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
        pub struct $name {
            #[serde(with = "number")]
            #[ts(type = "number")]
            pub $value: Option<f64>,
            #[serde(with = "number")]
            #[ts(type = "number")]
            pub low: Option<f64>,
            #[serde(with = "number")]
            #[ts(type = "number")]
            pub high: Option<f64>,
        }

        impl From<Option<Estimate>> for $name {
            fn from(found: Option<Estimate>) -> Self {
                Self {
                    $value: found.map(|found| found.value),
                    low: found.map(|found| found.low),
                    high: found.map(|found| found.high),
                }
            }
        }

        impl $name {
            pub fn estimate(self) -> Option<Estimate> {
                let known = self.$value.zip(self.low).zip(self.high);
                known.map(|((value, low), high)| Estimate { value, low, high })
            }
        }
    };
}

named_estimate!(
    Effect,
    evidence,
    "Evidence with its 95 % interval over questions; NaN where there is none."
);
named_estimate!(
    Correlation,
    r,
    "Pearson's r with its 95 % interval; NaN where there is too little to tell."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        #[serde(flatten)]
        effect: Effect,
        #[serde(with = "number")]
        kl: Option<f64>,
        #[serde(with = "floats")]
        values: Vec<f32>,
        #[serde(default, with = "floats::optional")]
        upper: Option<Vec<f32>>,
    }

    #[test]
    fn what_is_not_known_is_null_and_comes_back() {
        let row = Row {
            effect: None.into(),
            kl: None,
            values: vec![1.5],
            upper: None,
        };
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(
            json,
            r#"{"evidence":null,"low":null,"high":null,"kl":null,"values":[1.5],"upper":null}"#
        );
        let known = r#"{"evidence":1,"low":0,"high":2,"kl":0.5,"values":[null,2]}"#;
        let row: Row = serde_json::from_str(known).unwrap();
        assert_eq!(row.effect.estimate().unwrap().value, 1.0);
        assert_eq!(row.kl, Some(0.5));
        assert!(row.values[0].is_nan() && row.values[1] == 2.0);
    }
}
