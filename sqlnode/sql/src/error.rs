//! Errors of the language: an SQLSTATE, a sentence, and where in the statement it went wrong.
//!
//! Callers decide by [`SqlError::class`], clients by the SQLSTATE, people by the message. The codes stand in one table
//! below; their names are PostgreSQL's condition names (its appendix A).

use std::fmt;

use crate::store::StoreError;

/// What the caller of a failed statement does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The statement is at fault, or a limit or right says no: running it again changes nothing.
    User,
    /// Running the transaction again from its start may work.
    Retry,
    /// The data that is there forbids the change (class 23).
    Conflict,
    /// The store is damaged or gone, or we made a mistake.
    Fatal,
}

/// Five ASCII characters that say what went wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made from ASCII literals only")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! states {
    ($($code:literal $name:ident)*) => {
        impl SqlState {
            $(
                #[doc = concat!("SQLSTATE ", stringify!($code), ".")]
                pub const $name: SqlState = SqlState(*$code);
            )*
        }

        /// Every code that can be answered, with its condition name.
        pub const SQL_STATES: &[(SqlState, &str)] = &[$((SqlState(*$code), stringify!($name))),*];
    };
}

states! {
    b"01000" WARNING
    b"03000" SQL_STATEMENT_NOT_YET_COMPLETE
    b"08P01" PROTOCOL_VIOLATION
    b"0A000" FEATURE_NOT_SUPPORTED
    b"0LP01" INVALID_GRANT_OPERATION
    b"21000" CARDINALITY_VIOLATION
    b"22000" DATA_EXCEPTION
    b"22001" STRING_DATA_RIGHT_TRUNCATION
    b"22003" NUMERIC_VALUE_OUT_OF_RANGE
    b"22004" NULL_VALUE_NOT_ALLOWED
    b"22007" INVALID_DATETIME_FORMAT
    b"22008" DATETIME_FIELD_OVERFLOW
    b"2200G" MOST_SPECIFIC_TYPE_MISMATCH
    b"2200H" SEQUENCE_EXHAUSTED
    b"22011" SUBSTRING_ERROR
    b"22012" DIVISION_BY_ZERO
    b"22015" INTERVAL_FIELD_OVERFLOW
    b"2201B" INVALID_REGULAR_EXPRESSION
    b"2201E" INVALID_ARGUMENT_FOR_LOG
    b"2201F" INVALID_ARGUMENT_FOR_POWER_FUNCTION
    b"2201W" INVALID_ROW_COUNT_IN_LIMIT_CLAUSE
    b"2201X" INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE
    b"22021" CHARACTER_NOT_IN_REPERTOIRE
    b"22023" INVALID_PARAMETER_VALUE
    b"22025" INVALID_ESCAPE_SEQUENCE
    b"2202E" ARRAY_SUBSCRIPT_ERROR
    b"22030" DUPLICATE_JSON_OBJECT_KEY_VALUE
    b"22032" INVALID_JSON_TEXT
    b"22P02" INVALID_TEXT_REPRESENTATION
    b"22P03" INVALID_BINARY_REPRESENTATION
    b"22P04" BAD_COPY_FILE_FORMAT
    b"22P05" UNTRANSLATABLE_CHARACTER
    b"23000" INTEGRITY_CONSTRAINT_VIOLATION
    b"23502" NOT_NULL_VIOLATION
    b"23503" FOREIGN_KEY_VIOLATION
    b"23505" UNIQUE_VIOLATION
    b"23514" CHECK_VIOLATION
    b"25000" INVALID_TRANSACTION_STATE
    b"25001" ACTIVE_SQL_TRANSACTION
    b"25006" READ_ONLY_SQL_TRANSACTION
    b"25P01" NO_ACTIVE_SQL_TRANSACTION
    b"25P02" IN_FAILED_SQL_TRANSACTION
    b"25P03" IDLE_IN_TRANSACTION_SESSION_TIMEOUT
    b"26000" INVALID_SQL_STATEMENT_NAME
    b"28000" INVALID_AUTHORIZATION_SPECIFICATION
    b"28P01" INVALID_PASSWORD
    b"2BP01" DEPENDENT_OBJECTS_STILL_EXIST
    b"34000" INVALID_CURSOR_NAME
    b"3B001" INVALID_SAVEPOINT_SPECIFICATION
    b"3D000" INVALID_CATALOG_NAME
    b"3F000" INVALID_SCHEMA_NAME
    b"40001" SERIALIZATION_FAILURE
    b"40003" STATEMENT_COMPLETION_UNKNOWN
    b"40P01" DEADLOCK_DETECTED
    b"42501" INSUFFICIENT_PRIVILEGE
    b"42601" SYNTAX_ERROR
    b"42602" INVALID_NAME
    b"42611" INVALID_COLUMN_DEFINITION
    b"42622" NAME_TOO_LONG
    b"42701" DUPLICATE_COLUMN
    b"42702" AMBIGUOUS_COLUMN
    b"42703" UNDEFINED_COLUMN
    b"42704" UNDEFINED_OBJECT
    b"42710" DUPLICATE_OBJECT
    b"42712" DUPLICATE_ALIAS
    b"42725" AMBIGUOUS_FUNCTION
    b"42803" GROUPING_ERROR
    b"42804" DATATYPE_MISMATCH
    b"42809" WRONG_OBJECT_TYPE
    b"42830" INVALID_FOREIGN_KEY
    b"42846" CANNOT_COERCE
    b"428C9" GENERATED_ALWAYS
    b"42883" UNDEFINED_FUNCTION
    b"42939" RESERVED_NAME
    b"42P01" UNDEFINED_TABLE
    b"42P02" UNDEFINED_PARAMETER
    b"42P03" DUPLICATE_CURSOR
    b"42P04" DUPLICATE_DATABASE
    b"42P05" DUPLICATE_PREPARED_STATEMENT
    b"42P06" DUPLICATE_SCHEMA
    b"42P07" DUPLICATE_TABLE
    b"42P08" AMBIGUOUS_PARAMETER
    b"42P09" AMBIGUOUS_ALIAS
    b"42P10" INVALID_COLUMN_REFERENCE
    b"42P16" INVALID_TABLE_DEFINITION
    b"42P17" INVALID_OBJECT_DEFINITION
    b"42P18" INDETERMINATE_DATATYPE
    b"42P19" INVALID_RECURSION
    b"42P22" INDETERMINATE_COLLATION
    b"44000" WITH_CHECK_OPTION_VIOLATION
    b"53000" INSUFFICIENT_RESOURCES
    b"53100" DISK_FULL
    b"53200" OUT_OF_MEMORY
    b"53300" TOO_MANY_CONNECTIONS
    b"54000" PROGRAM_LIMIT_EXCEEDED
    b"54001" STATEMENT_TOO_COMPLEX
    b"54011" TOO_MANY_COLUMNS
    b"54023" TOO_MANY_ARGUMENTS
    b"55000" OBJECT_NOT_IN_PREREQUISITE_STATE
    b"55006" OBJECT_IN_USE
    b"55P02" CANT_CHANGE_RUNTIME_PARAM
    b"55P03" LOCK_NOT_AVAILABLE
    b"57014" QUERY_CANCELED
    b"57P01" ADMIN_SHUTDOWN
    b"57P03" CANNOT_CONNECT_NOW
    b"58000" SYSTEM_ERROR
    b"XX000" INTERNAL_ERROR
    b"XX001" DATA_CORRUPTED
}

/// A failed statement. One pointer wide, so that the success path stays cheap; the fields are those of [`ErrorFields`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError(Box<ErrorFields>);

/// What an error says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFields {
    /// What went wrong, for programs.
    pub state: SqlState,
    /// What went wrong, for people.
    pub message: String,
    /// More about this case.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The 1-based character of the statement at fault.
    pub position: Option<usize>,
    /// The schema whose table is concerned (class 23).
    pub schema: Option<String>,
    /// The table concerned (class 23).
    pub table: Option<String>,
    /// The column concerned (class 23).
    pub column: Option<String>,
    /// The constraint concerned (class 23).
    pub constraint: Option<String>,
}

/// What this crate's functions return.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

impl SqlError {
    /// An error with a code and a sentence.
    pub fn new(state: SqlState, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorFields {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            schema: None,
            table: None,
            column: None,
            constraint: None,
        }))
    }

    /// What PostgreSQL has and this version hasn't (0A000).
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} is not supported"))
    }

    /// A part of a date or time that a type hasn't (0A000).
    pub fn unsupported_for(unit: &str, ty: impl fmt::Display) -> Self {
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, format!("unit \"{unit}\" not supported for type {ty}"))
    }

    /// Our own mistake (XX000).
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, message)
    }

    /// Stored bytes that can't be what was written (XX001).
    pub fn corrupted(message: impl Into<String>) -> Self {
        Self::new(SqlState::DATA_CORRUPTED, message)
    }

    /// Adds a detail.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the 1-based character of the statement at fault, unless a narrower one is known already.
    pub fn at(mut self, position: Option<usize>) -> Self {
        self.position = self.position.or(position);
        self
    }

    /// Names the table concerned.
    pub fn with_table(mut self, schema: impl Into<String>, table: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self.table = Some(table.into());
        self
    }

    /// Names the column concerned.
    pub fn with_column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }

    /// Names the constraint concerned.
    pub fn with_constraint(mut self, constraint: impl Into<String>) -> Self {
        self.constraint = Some(constraint.into());
        self
    }

    /// What the caller does next.
    pub fn class(&self) -> Class {
        match self.state.as_str() {
            "40001" | "40P01" | "55P03" => Class::Retry,
            code if code.starts_with("23") => Class::Conflict,
            code if code.starts_with("XX") || code.starts_with("58") || code == "57P01" => Class::Fatal,
            _ => Class::User,
        }
    }
}

impl std::ops::Deref for SqlError {
    type Target = ErrorFields;

    fn deref(&self) -> &ErrorFields {
        &self.0
    }
}

impl std::ops::DerefMut for SqlError {
    fn deref_mut(&mut self) -> &mut ErrorFields {
        &mut self.0
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.state, self.message)
    }
}

impl std::error::Error for SqlError {}

impl From<StoreError> for SqlError {
    fn from(error: StoreError) -> Self {
        let state = match &error {
            StoreError::Retry(_) => SqlState::SERIALIZATION_FAILURE,
            StoreError::Limit(_) => SqlState::PROGRAM_LIMIT_EXCEEDED,
            StoreError::Fatal(_) => SqlState::DATA_CORRUPTED,
        };
        Self::new(state, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for (state, name) in SQL_STATES {
            assert!(seen.insert(*state), "{state} twice");
            assert!(state.as_str().bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()), "{name}");
        }
    }

    #[test]
    fn store_errors_keep_their_reaction() {
        let class = |error: StoreError| SqlError::from(error).class();
        assert_eq!(class(StoreError::Retry(String::new())), Class::Retry);
        assert_eq!(class(StoreError::Limit(String::new())), Class::User);
        assert_eq!(class(StoreError::Fatal(String::new())), Class::Fatal);
    }

    #[test]
    fn the_narrowest_position_wins() {
        let error = SqlError::internal("x").at(Some(7)).at(Some(1));
        assert_eq!(error.position, Some(7));
    }
}
