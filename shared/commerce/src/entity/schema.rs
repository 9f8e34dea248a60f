//! Owns the JSON Schemas of the texts that entities hold, which are more than texts: ids, amounts and times. Compiled for the tests that
//! write schemas and pages down.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $schema:tt),* $(,)?) => {$(
        $(#[$doc])*
        pub struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

texts! {
    /// An entity's id at its platform.
    Id: { "type": "string", "minLength": 1, "maxLength": 256 },
    /// A decimal number, as text so that nobody reads it as a float.
    Amount: { "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$" },
    /// A moment in UTC, RFC 3339. `9999-12-30T22:00:00Z` stands for no end.
    Time: { "type": "string", "format": "date-time" },
}
