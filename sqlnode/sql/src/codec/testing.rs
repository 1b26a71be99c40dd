//! Values of every indexable type, for the properties of both codecs.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::types::{Interval, Json, Numeric, Type, Value};

/// The types that can be stored and indexed.
pub(super) fn types() -> Vec<Type> {
    let mut types: Vec<Type> =
        Type::all().filter(|ty| !matches!(ty, Type::Unknown | Type::Record | Type::Void)).collect();
    types.extend([Type::Int4, Type::Text, Type::Numeric(None)].map(Type::array_of));
    types
}

fn numeric() -> impl Strategy<Value = Numeric> {
    prop_oneof![
        8 => (any::<i64>(), 0u32..30).prop_map(|(digits, scale)| Numeric::Finite { digits: digits.into(), scale }),
        4 => (-20i64..20, 0u32..3).prop_map(|(digits, scale)| Numeric::Finite { digits: digits.into(), scale }),
        1 => Just(Numeric::NaN),
        1 => Just(Numeric::PositiveInfinity),
        1 => Just(Numeric::NegativeInfinity),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (-9i64..9, 0u32..2).prop_map(|(digits, scale)| Json::Number(Numeric::Finite { digits: digits.into(), scale })),
        "[a-b\u{1}]{0,3}".prop_map(Json::String),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Json::Array),
            vec(("[ab]{0,2}", inner), 0..3).prop_map(Json::object),
        ]
    })
}

fn value(ty: &Type) -> BoxedStrategy<Value> {
    let some = match ty {
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::CharByte => any::<u8>().prop_map(Value::CharByte).boxed(),
        Type::Int2 => any::<i16>().prop_map(Value::Int2).boxed(),
        Type::Int4 => any::<i32>().prop_map(Value::Int4).boxed(),
        Type::Int8 => any::<i64>().prop_map(Value::Int8).boxed(),
        Type::Float4 => any::<f32>().prop_map(Value::Float4).boxed(),
        Type::Float8 => {
            prop_oneof![any::<f64>(), Just(0.0), Just(-0.0), Just(f64::NAN)].prop_map(Value::Float8).boxed()
        }
        Type::Numeric(_) => numeric().prop_map(Value::Numeric).boxed(),
        Type::Bytea => vec(0u8..3, 0..5).prop_map(Value::bytes).boxed(),
        Type::Uuid => any::<u128>().prop_map(|bits| Value::Uuid(uuid::Uuid::from_u128(bits))).boxed(),
        Type::Timestamptz(_) => any::<i32>().prop_map(|t| Value::Timestamptz(i64::from(t) * 1_000_003)).boxed(),
        Type::Timestamp(_) => any::<i32>().prop_map(|t| Value::Timestamp(i64::from(t) * 1_000_003)).boxed(),
        Type::Date => (-100_000i32..100_000).prop_map(Value::Date).boxed(),
        Type::Time(_) => (0i64..86_400_000_000).prop_map(Value::Time).boxed(),
        Type::Interval(_) => (-30i32..30, -70i32..70, any::<i32>())
            .prop_map(|(months, days, micros)| {
                Value::Interval(Interval { months, days, micros: i64::from(micros) * 1000 })
            })
            .boxed(),
        Type::Jsonb | Type::Json => json().prop_map(Value::json).boxed(),
        Type::Array(element) => {
            let element_type = (**element).clone();
            vec(value(element), 0..4).prop_map(move |values| Value::array(element_type.clone(), values)).boxed()
        }
        ty if ty.is_oid() => any::<u32>().prop_map(Value::Oid).boxed(),
        _ => "[a-c\u{1}é]{0,4}".prop_map(Value::text).boxed(),
    };
    prop_oneof![9 => some, 1 => Just(Value::Null)].boxed()
}

/// A type and two of its values.
pub(super) fn typed_pair() -> impl Strategy<Value = (Type, Value, Value)> {
    proptest::sample::select(types()).prop_flat_map(|ty| (Just(ty.clone()), value(&ty), value(&ty)))
}
