//! The types, with PostgreSQL's oids, names and modifiers.
//!
//! A type carries its modifier (`numeric(10,2)`, `varchar(20)`), so equality includes it; [`Type::base`] drops it.

use std::fmt;

/// A type, with its modifier where it has one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// A literal or parameter whose type is not yet known.
    Unknown,
    /// `boolean`
    Bool,
    /// `"char"`: one byte, in the system catalog.
    CharByte,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`, `numeric(precision, scale)`
    Numeric(Option<(u16, i16)>),
    /// `text`
    Text,
    /// `varchar`, `varchar(characters)`
    Varchar(Option<u32>),
    /// `char(characters)`: blank-padded; without a length it is what comparisons use (`bpchar`).
    Char(Option<u32>),
    /// `name`
    Name,
    /// `bytea`
    Bytea,
    /// `uuid`
    Uuid,
    /// `timestamp with time zone`, with digits of its fraction where they are limited, like the three below
    Timestamptz(Option<u8>),
    /// `timestamp without time zone`
    Timestamp(Option<u8>),
    /// `date`
    Date,
    /// `time without time zone`
    Time(Option<u8>),
    /// `interval`
    Interval(Option<u8>),
    /// `jsonb`
    Jsonb,
    /// `json`: kept as the same tree as `jsonb`.
    Json,
    /// `oid`
    Oid,
    /// `regclass`: the oid of a relation.
    Regclass,
    /// `regtype`: the oid of a type.
    Regtype,
    /// `regproc`: the oid of a function.
    Regproc,
    /// `regnamespace`: the oid of a schema.
    Regnamespace,
    /// An array of elements, any number of dimensions.
    Array(Box<Type>),
    /// `record`: an anonymous row.
    Record,
    /// `void`: the result of a function called for its effect.
    Void,
}

/// PostgreSQL's type categories, which decide what is preferred when several conversions are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Arrays.
    Array,
    /// Booleans.
    Boolean,
    /// Date and time.
    DateTime,
    /// Numbers, oids among them.
    Numeric,
    /// Rows and the like.
    Pseudo,
    /// Strings.
    String,
    /// Spans of time.
    Timespan,
    /// What has no category of its own (uuid, bytea, jsonb).
    User,
    /// The unknown literal.
    Unknown,
    /// `"char"`.
    Internal,
}

/// The row of the type table.
struct Row {
    ty: Type,
    oid: u32,
    array_oid: u32,
    /// `pg_type.typname`
    internal: &'static str,
    /// What `format_type` says.
    display: &'static str,
    /// `pg_type.typlen`
    length: i16,
    category: Category,
    preferred: bool,
}

macro_rules! rows {
    ($($ty:expr, $oid:literal, $array:literal, $internal:literal, $display:literal, $length:literal, $category:ident $preferred:literal;)*) => {
        &[$(Row {
            ty: $ty, oid: $oid, array_oid: $array, internal: $internal, display: $display, length: $length,
            category: Category::$category, preferred: $preferred,
        }),*]
    };
}

const TABLE: &[Row] = rows! {
    Type::Unknown,        705,  0,    "unknown",      "unknown",                     -2, Unknown  false;
    Type::Bool,           16,   1000, "bool",         "boolean",                      1, Boolean  true;
    Type::CharByte,       18,   1002, "char",         "\"char\"",                     1, Internal false;
    Type::Int2,           21,   1005, "int2",         "smallint",                     2, Numeric  false;
    Type::Int4,           23,   1007, "int4",         "integer",                      4, Numeric  false;
    Type::Int8,           20,   1016, "int8",         "bigint",                       8, Numeric  false;
    Type::Float4,         700,  1021, "float4",       "real",                         4, Numeric  false;
    Type::Float8,         701,  1022, "float8",       "double precision",             8, Numeric  true;
    Type::Numeric(None),  1700, 1231, "numeric",      "numeric",                     -1, Numeric  false;
    Type::Text,           25,   1009, "text",         "text",                        -1, String   true;
    Type::Varchar(None),  1043, 1015, "varchar",      "character varying",           -1, String   false;
    Type::Char(None),     1042, 1014, "bpchar",       "character",                   -1, String   false;
    Type::Name,           19,   1003, "name",         "name",                        64, String   false;
    Type::Bytea,          17,   1001, "bytea",        "bytea",                       -1, User     false;
    Type::Uuid,           2950, 2951, "uuid",         "uuid",                        16, User     false;
    Type::Timestamptz(None), 1184, 1185, "timestamptz",  "timestamp with time zone",     8, DateTime true;
    Type::Timestamp(None), 1114, 1115, "timestamp",    "timestamp without time zone",  8, DateTime false;
    Type::Date,           1082, 1182, "date",         "date",                         4, DateTime false;
    Type::Time(None),     1083, 1183, "time",         "time without time zone",       8, DateTime false;
    Type::Interval(None), 1186, 1187, "interval",     "interval",                    16, Timespan true;
    Type::Jsonb,          3802, 3807, "jsonb",        "jsonb",                       -1, User     false;
    Type::Json,           114,  199,  "json",         "json",                        -1, User     false;
    Type::Oid,            26,   1028, "oid",          "oid",                          4, Numeric  true;
    Type::Regclass,       2205, 2210, "regclass",     "regclass",                     4, Numeric  false;
    Type::Regtype,        2206, 2211, "regtype",      "regtype",                      4, Numeric  false;
    Type::Regproc,        24,   1008, "regproc",      "regproc",                      4, Numeric  false;
    Type::Regnamespace,   4089, 4090, "regnamespace", "regnamespace",                 4, Numeric  false;
    Type::Record,         2249, 2287, "record",       "record",                      -1, Pseudo   false;
    Type::Void,           2278, 0,    "void",         "void",                         4, Pseudo   false;
};

impl Type {
    /// An array of this type; an array's element type is never an array, as in PostgreSQL.
    pub fn array_of(element: Type) -> Type {
        match element {
            Type::Array(_) => element,
            other => Type::Array(Box::new(other)),
        }
    }

    /// The type without its modifier.
    pub fn base(&self) -> Type {
        match self {
            Type::Numeric(_) => Type::Numeric(None),
            Type::Varchar(_) => Type::Varchar(None),
            Type::Char(_) => Type::Char(None),
            Type::Timestamptz(_) => Type::Timestamptz(None),
            Type::Timestamp(_) => Type::Timestamp(None),
            Type::Time(_) => Type::Time(None),
            Type::Interval(_) => Type::Interval(None),
            Type::Array(element) => Type::Array(Box::new(element.base())),
            other => other.clone(),
        }
    }

    /// True if the types differ in nothing but a modifier.
    pub fn same_base(&self, other: &Type) -> bool {
        self.oid() == other.oid()
    }

    /// The types that a column may have, without modifiers, and the pseudo-types.
    pub fn all() -> impl Iterator<Item = Type> {
        TABLE.iter().map(|row| row.ty.clone())
    }

    /// The type with this oid and modifier (-1: none), as `pg_attribute` and the wire protocol give them.
    pub fn from_oid(oid: u32, typmod: i32) -> Option<Type> {
        let row = TABLE.iter().find(|row| row.oid == oid || (row.array_oid == oid && oid != 0))?;
        let element = row.ty.with_typmod(typmod);
        Some(if row.oid == oid { element } else { Type::array_of(element) })
    }

    /// The type of this name as people write it: `int`, `pg_catalog.int4`, `varchar(20)`, `text[]`.
    pub fn by_name(name: &str) -> Option<Type> {
        let lower = name.trim().to_ascii_lowercase();
        let lower = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
        if let Some(element) = lower.strip_suffix("[]") {
            return Some(Type::array_of(Type::by_name(element)?));
        }
        if name.trim() == "\"char\"" {
            return Some(Type::CharByte);
        }
        let (word, modifiers) = match lower.split_once('(') {
            Some((word, rest)) => (word.trim(), rest.strip_suffix(')')?.split(',').map(str::trim).collect()),
            None => (lower, Vec::new()),
        };
        let base = match word {
            "int" => Type::Int4,
            "decimal" | "dec" => Type::Numeric(None),
            "float" => Type::Float8,
            "char" => Type::Char(Some(1)),
            "character" if modifiers.is_empty() => Type::Char(Some(1)),
            _ => {
                if let Some(element) = word.strip_prefix('_') {
                    return Some(Type::array_of(Type::by_name(element)?));
                }
                let row = TABLE.iter().find(|row| row.internal == word || row.display == word)?;
                row.ty.clone()
            }
        };
        let numbers: Vec<i32> = modifiers.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?;
        Some(match (base, &numbers[..]) {
            (base, []) => base,
            (Type::Numeric(_), [precision @ 1..=1000]) => Type::Numeric(Some((*precision as u16, 0))),
            (Type::Numeric(_), [precision @ 1..=1000, scale @ -1000..=1000]) => {
                Type::Numeric(Some((*precision as u16, *scale as i16)))
            }
            (Type::Varchar(_), [length @ 1..=10_485_760]) => Type::Varchar(Some(*length as u32)),
            (Type::Char(_), [length @ 1..=10_485_760]) => Type::Char(Some(*length as u32)),
            (base, [digits @ 0..=6]) => base.with_fraction(*digits as u8)?,
            _ => return None,
        })
    }

    /// A type of times whose seconds have so many digits after the point; `None` for types without seconds.
    pub fn with_fraction(&self, digits: u8) -> Option<Type> {
        let digits = Some(digits.min(6));
        Some(match self {
            Type::Timestamptz(_) => Type::Timestamptz(digits),
            Type::Timestamp(_) => Type::Timestamp(digits),
            Type::Time(_) => Type::Time(digits),
            Type::Interval(_) => Type::Interval(digits),
            _ => return None,
        })
    }

    /// The digits that [`Type::with_fraction`] set.
    pub fn fraction(&self) -> Option<u8> {
        match self {
            Type::Timestamptz(digits) | Type::Timestamp(digits) | Type::Time(digits) | Type::Interval(digits) => {
                *digits
            }
            _ => None,
        }
    }

    /// The oid of `pg_type`.
    pub fn oid(&self) -> u32 {
        match self {
            Type::Array(element) => element.row().array_oid,
            other => other.row().oid,
        }
    }

    /// The oid of the array type over this one; 0 if there is none.
    pub fn array_oid(&self) -> u32 {
        match self {
            Type::Array(_) => 0,
            other => other.row().array_oid,
        }
    }

    /// The modifier as PostgreSQL encodes it; -1 if there is none.
    pub fn typmod(&self) -> i32 {
        match self {
            Type::Numeric(Some((precision, scale))) => (i32::from(*precision) << 16 | (i32::from(*scale) & 0x7ff)) + 4,
            Type::Varchar(Some(length)) | Type::Char(Some(length)) => {
                i32::try_from(*length).unwrap_or(i32::MAX - 4) + 4
            }
            // The upper half says which fields there are: all of them.
            Type::Interval(Some(digits)) => 0x7fff << 16 | i32::from(*digits),
            Type::Array(element) => element.typmod(),
            other => other.fraction().map_or(-1, i32::from),
        }
    }

    /// This type with the modifier that PostgreSQL encodes so.
    pub fn with_typmod(&self, typmod: i32) -> Type {
        if typmod < 0 {
            return self.base();
        }
        if let Some(ty) = self.with_fraction((typmod & 0xff) as u8) {
            return ty;
        }
        let bits = typmod - 4;
        if bits < 0 && !matches!(self, Type::Array(_)) {
            return self.base();
        }
        match self {
            Type::Numeric(_) => {
                let scale = ((bits & 0x7ff) ^ 1024) - 1024;
                Type::Numeric(Some(((bits >> 16) as u16, scale as i16)))
            }
            Type::Varchar(_) => Type::Varchar(Some(bits as u32)),
            Type::Char(_) => Type::Char(Some(bits as u32)),
            Type::Array(element) => Type::array_of(element.with_typmod(typmod)),
            other => other.clone(),
        }
    }

    /// `pg_type.typname`: `int4`, `_text`.
    pub fn internal_name(&self) -> String {
        match self {
            Type::Array(element) => format!("_{}", element.row().internal),
            other => other.row().internal.to_string(),
        }
    }

    /// `pg_type.typlen`: the width in bytes, or -1 when it varies.
    pub fn length(&self) -> i16 {
        match self {
            Type::Array(_) => -1,
            other => other.row().length,
        }
    }

    /// The category.
    pub fn category(&self) -> Category {
        match self {
            Type::Array(_) => Category::Array,
            other => other.row().category,
        }
    }

    /// True for the type preferred in its category.
    pub fn is_preferred(&self) -> bool {
        match self {
            Type::Array(_) => false,
            other => other.row().preferred,
        }
    }

    /// The element type of an array.
    pub fn element(&self) -> Option<&Type> {
        match self {
            Type::Array(element) => Some(element),
            _ => None,
        }
    }

    /// True for types whose values are [`Value::Text`](super::Value::Text).
    pub fn is_text(&self) -> bool {
        matches!(self, Type::Text | Type::Varchar(_) | Type::Char(_) | Type::Name | Type::Unknown)
    }

    /// True for types whose values are [`Value::Oid`](super::Value::Oid).
    pub fn is_oid(&self) -> bool {
        matches!(self, Type::Oid | Type::Regclass | Type::Regtype | Type::Regproc | Type::Regnamespace)
    }

    fn row(&self) -> &'static Row {
        let base = self.base();
        TABLE.iter().find(|row| row.ty == base).unwrap_or(&TABLE[0])
    }
}

/// As `format_type` prints it: `numeric(10,2)`, `character varying(20)[]`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Numeric(Some((precision, scale))) => write!(f, "numeric({precision},{scale})"),
            Type::Varchar(Some(length)) => write!(f, "character varying({length})"),
            Type::Char(Some(length)) => write!(f, "character({length})"),
            Type::Char(None) => f.write_str("bpchar"),
            Type::Array(element) => write!(f, "{element}[]"),
            other => match (other.row().display, other.fraction()) {
                // `timestamp(3) with time zone`
                (display, Some(digits)) => match display.split_once(' ') {
                    Some((word, rest)) => write!(f, "{word}({digits}) {rest}"),
                    None => write!(f, "{display}({digits})"),
                },
                (display, None) => f.write_str(display),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_oid_and_name() {
        for ty in Type::all() {
            assert_eq!(Type::from_oid(ty.oid(), ty.typmod()).as_ref(), Some(&ty), "{ty}");
            let name = if ty == Type::CharByte { "\"char\"".to_string() } else { ty.internal_name() };
            assert_eq!(Type::by_name(&name).map(|ty| ty.base()), Some(ty.clone()), "{ty}");
        }
        let number = Type::Numeric(Some((10, 2)));
        assert_eq!(Type::from_oid(1700, number.typmod()), Some(number));
        for ty in ["timestamptz(0)", "timestamp(3)", "time(6)", "interval(2)", "timestamptz(4)[]", "varchar(1)[]"] {
            let ty = Type::by_name(ty).unwrap();
            assert_eq!(Type::from_oid(ty.oid(), ty.typmod()), Some(ty.clone()), "{ty}");
        }
        assert_eq!(Type::Timestamptz(Some(3)).to_string(), "timestamp(3) with time zone");
        assert_eq!(Type::Interval(Some(0)).to_string(), "interval(0)");
        assert_eq!(Type::by_name("character varying(20)[]").unwrap().to_string(), "character varying(20)[]");
        assert_eq!(Type::from_oid(1007, -1), Some(Type::array_of(Type::Int4)));
        assert_eq!(Type::by_name("nothing"), None);
    }
}
