//! COPY: what the statement asks for, and rows as lines of text or CSV.
//!
//! Nothing is copied here. Whoever speaks with the client runs [`CopyStatement::select_sql`] and writes its rows with
//! [`CopyFormat::write_row`], or reads rows with a [`CopyReader`] and inserts them, many at once, by
//! [`CopyStatement::insert_sql`].
//!
//! ```text
//!   text    1<TAB>ann<TAB>\N        a backslash before what would be misread; \N is NULL; \. ends the data
//!   csv     1,"a ""b""",            quoted where needed, NULL is nothing without quotes
//! ```

use sqlparser::ast;

use crate::error::{Result, SqlError, SqlState};
use crate::kind::fold;

/// Bytes of one row, before it is taken apart.
const ROW_BYTES_MAX: usize = 16 << 20;

/// A COPY between a table or query and the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyStatement {
    /// The table's name, or the query in brackets, as SQL.
    source: String,
    /// Names of the columns as SQL, if they are given.
    columns: Vec<String>,
    from_client: bool,
    format: CopyFormat,
}

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFormat {
    csv: bool,
    header: bool,
    delimiter: u8,
    null: String,
    quote: u8,
    escape: u8,
}

fn refused(what: &str) -> SqlError {
    SqlError::unsupported(format!("COPY with {what}"))
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn broken(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

fn one_byte(c: char, what: &str) -> Result<u8> {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(byte),
        _ => Err(invalid(format!("COPY {what} must be a single one-byte character"))),
    }
}

impl CopyStatement {
    /// What the syntax says; nothing for files and programs of the server, which are refused.
    pub(crate) fn of(
        source: &ast::CopySource,
        to: bool,
        target: &ast::CopyTarget,
        options: &[ast::CopyOption],
        legacy: &[ast::CopyLegacyOption],
    ) -> Result<Self> {
        if matches!(target, ast::CopyTarget::File { .. } | ast::CopyTarget::Program { .. }) {
            return Err(
                refused("a file or program of the server").with_hint("Use STDIN or STDOUT, as psql's \\copy does.")
            );
        }
        let (source, columns) = match source {
            ast::CopySource::Table { table_name, columns } => {
                (table_name.to_string(), columns.iter().map(ToString::to_string).collect())
            }
            ast::CopySource::Query(query) => (format!("({query})"), vec![]),
        };
        Ok(CopyStatement { source, columns, from_client: !to, format: CopyFormat::of(options, legacy)? })
    }

    /// True for `COPY ... FROM STDIN`.
    pub fn is_from_client(&self) -> bool {
        self.from_client
    }

    /// How its rows are written.
    pub fn format(&self) -> &CopyFormat {
        &self.format
    }

    /// The query whose rows, or only whose columns, are copied.
    pub fn select_sql(&self) -> String {
        match (self.source.starts_with('('), self.columns.is_empty()) {
            (true, _) => format!("SELECT * FROM {} AS copied", self.source),
            (false, true) => format!("SELECT * FROM {}", self.source),
            (false, false) => format!("SELECT {} FROM {}", self.columns.join(", "), self.source),
        }
    }

    /// A statement that inserts so many rows, their values as parameters, row by row.
    pub fn insert_sql(&self, rows: usize, width: usize) -> String {
        let row = |row: usize| {
            let values: Vec<String> = (0..width).map(|at| format!("${}", row * width + at + 1)).collect();
            format!("({})", values.join(", "))
        };
        let columns = if self.columns.is_empty() { String::new() } else { format!(" ({})", self.columns.join(", ")) };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!("INSERT INTO {}{columns} VALUES {}", self.source, rows.join(", "))
    }
}

impl CopyFormat {
    fn of(options: &[ast::CopyOption], legacy: &[ast::CopyLegacyOption]) -> Result<Self> {
        use ast::{CopyLegacyCsvOption as Csv, CopyLegacyOption as Old, CopyOption as Option_};
        let mut csv = false;
        let (mut header, mut delimiter, mut null, mut quote, mut escape) = (false, None, None, None, None);
        for option in options {
            match option {
                Option_::Format(name) => match fold(name).as_str() {
                    "csv" => csv = true,
                    "text" => csv = false,
                    other => return Err(refused(&format!("the format {other}"))),
                },
                // There is nothing to freeze.
                Option_::Freeze(_) => {}
                Option_::Delimiter(c) => delimiter = Some(one_byte(*c, "delimiter")?),
                Option_::Null(text) => null = Some(text.clone()),
                Option_::Header(on) => header = *on,
                Option_::Quote(c) => quote = Some(one_byte(*c, "quote")?),
                Option_::Escape(c) => escape = Some(one_byte(*c, "escape")?),
                Option_::Encoding(name) if matches!(name.to_lowercase().as_str(), "utf8" | "utf-8" | "unicode") => {}
                other => return Err(refused(&other.to_string())),
            }
        }
        for option in legacy {
            match option {
                Old::Csv(details) => {
                    csv = true;
                    for detail in details {
                        match detail {
                            Csv::Header => header = true,
                            Csv::Quote(c) => quote = Some(one_byte(*c, "quote")?),
                            Csv::Escape(c) => escape = Some(one_byte(*c, "escape")?),
                            other => return Err(refused(&other.to_string())),
                        }
                    }
                }
                Old::Delimiter(c) => delimiter = Some(one_byte(*c, "delimiter")?),
                Old::Null(text) => null = Some(text.clone()),
                Old::Header => header = true,
                other => return Err(refused(&other.to_string())),
            }
        }
        if !csv && (quote.is_some() || escape.is_some()) {
            return Err(invalid("COPY quote and escape available only in CSV mode"));
        }
        let delimiter = delimiter.unwrap_or(if csv { b',' } else { b'\t' });
        let quote = quote.unwrap_or(b'"');
        let null = null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_string() });
        if (csv && delimiter == quote) || (!csv && (delimiter.is_ascii_alphanumeric() || b"\\.".contains(&delimiter))) {
            return Err(invalid(format!("COPY delimiter cannot be \"{}\"", char::from(delimiter))));
        }
        if null.contains(['\n', '\r']) || null.contains(char::from(delimiter)) {
            return Err(invalid("COPY null representation cannot use newline, carriage return or the delimiter"));
        }
        Ok(CopyFormat { csv, header, delimiter, null, quote, escape: escape.unwrap_or(quote) })
    }

    /// True if the names of the columns go before the rows.
    pub fn has_header(&self) -> bool {
        self.header
    }

    /// Writes one row and the end of its line.
    pub fn write_row<'a>(&self, fields: impl IntoIterator<Item = Option<&'a str>>, out: &mut Vec<u8>) {
        for (at, field) in fields.into_iter().enumerate() {
            if at > 0 {
                out.push(self.delimiter);
            }
            match field {
                None => out.extend(self.null.as_bytes()),
                Some(text) if self.csv => self.write_quoted(text, out),
                Some(text) => self.write_escaped(text, out),
            }
        }
        out.push(b'\n');
    }

    fn write_quoted(&self, text: &str, out: &mut Vec<u8>) {
        let special = |byte: u8| byte == self.delimiter || byte == self.quote || byte == b'\n' || byte == b'\r';
        if text != self.null && text != "\\." && !text.bytes().any(special) {
            return out.extend(text.as_bytes());
        }
        out.push(self.quote);
        for byte in text.bytes() {
            if byte == self.quote || byte == self.escape {
                out.push(self.escape);
            }
            out.push(byte);
        }
        out.push(self.quote);
    }

    fn write_escaped(&self, text: &str, out: &mut Vec<u8>) {
        for byte in text.bytes() {
            let letter = match byte {
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                b'\\' => b'\\',
                byte if byte == self.delimiter => byte,
                byte => {
                    out.push(byte);
                    continue;
                }
            };
            out.extend([b'\\', letter]);
        }
    }
}

/// The fields of one row; nothing for NULL.
pub type CopyRow = Vec<Option<String>>;

/// Takes data apart into rows, however it is cut into pieces on its way.
#[derive(Debug)]
pub struct CopyReader {
    format: CopyFormat,
    pending: Vec<u8>,
    /// How far `pending` was looked through for the end of a row.
    looked: usize,
    /// Within quotes at that place.
    quoted: bool,
    header: bool,
    ended: bool,
    line: u64,
}

impl CopyReader {
    /// A reader of data in a format.
    pub fn new(format: &CopyFormat) -> Self {
        let header = format.header;
        CopyReader { format: format.clone(), pending: vec![], looked: 0, quoted: false, header, ended: false, line: 0 }
    }

    /// The number of the row read last, headers counted.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Takes more data.
    pub fn push(&mut self, data: &[u8]) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.pending.extend(data);
        Ok(())
    }

    /// The next whole row; after the end of the data (`last`), the rest counts as one.
    pub fn next_row(&mut self, last: bool) -> Result<Option<CopyRow>> {
        loop {
            let Some(mut line) = self.next_line(last)? else { return Ok(None) };
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line == b"\\." {
                (self.ended, self.pending) = (true, vec![]);
                return Ok(None);
            }
            self.line += 1;
            if std::mem::take(&mut self.header) {
                continue;
            }
            let text = String::from_utf8(line).map_err(|_| {
                let message = "invalid byte sequence for encoding \"UTF8\"";
                SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message)
            })?;
            return if self.format.csv { self.unquote(&text) } else { self.unescape(&text) }.map(Some);
        }
    }

    /// Cuts one row off, without the end of its line.
    fn next_line(&mut self, last: bool) -> Result<Option<Vec<u8>>> {
        let CopyFormat { csv, quote, escape, .. } = self.format;
        let mut at = self.looked;
        while at < self.pending.len() {
            let byte = self.pending[at];
            // An escaped character decides nothing. Where quotes escape themselves, two of them change nothing.
            let escapes = if csv { self.quoted && byte == escape && escape != quote } else { byte == b'\\' };
            match byte {
                _ if escapes && at + 1 == self.pending.len() && !last => break,
                _ if escapes && self.pending.get(at + 1) != Some(&b'\n') => at += 1,
                b'\n' if !self.quoted => {
                    let mut line: Vec<u8> = self.pending.drain(..=at).collect();
                    line.pop();
                    self.looked = 0;
                    return Ok(Some(line));
                }
                byte if csv && byte == quote => self.quoted = !self.quoted,
                _ => {}
            }
            at += 1;
        }
        self.looked = at.min(self.pending.len());
        if self.pending.len() > ROW_BYTES_MAX {
            return Err(broken(format!("a row of COPY data is longer than {ROW_BYTES_MAX} bytes")));
        }
        if !last || self.pending.is_empty() {
            return Ok(None);
        }
        if self.quoted {
            return Err(broken("unterminated CSV quoted field"));
        }
        self.looked = 0;
        Ok(Some(std::mem::take(&mut self.pending)))
    }

    fn unescape(&self, text: &str) -> Result<CopyRow> {
        let delimiter = self.format.delimiter;
        let mut row = Vec::new();
        let (mut raw, mut field) = (Vec::new(), Vec::new());
        let mut finish = |raw: &mut Vec<u8>, field: &mut Vec<u8>| -> Result<()> {
            let value = std::mem::take(field);
            let is_null = std::mem::take(raw) == self.format.null.as_bytes();
            let text = String::from_utf8(value).map_err(|_| broken("a backslash sequence makes no UTF-8"))?;
            row.push((!is_null).then_some(text));
            Ok(())
        };
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            if byte == delimiter {
                finish(&mut raw, &mut field)?;
                continue;
            }
            raw.push(byte);
            if byte != b'\\' {
                field.push(byte);
                continue;
            }
            let Some(letter) = bytes.next() else {
                field.push(b'\\');
                break;
            };
            raw.push(letter);
            let mut number = |first: u32, radix: u32, digits_max: usize, mut digits: usize| {
                let mut value = first;
                while digits < digits_max
                    && let Some(digit) = bytes.peek().and_then(|byte| char::from(*byte).to_digit(radix))
                {
                    raw.extend(bytes.next());
                    (value, digits) = (value * radix + digit, digits + 1);
                }
                (value as u8, digits)
            };
            match letter {
                b'b' => field.push(0x08),
                b'f' => field.push(0x0c),
                b'n' => field.push(b'\n'),
                b'r' => field.push(b'\r'),
                b't' => field.push(b'\t'),
                b'v' => field.push(0x0b),
                b'0'..=b'7' => field.push(number(u32::from(letter - b'0'), 8, 3, 1).0),
                b'x' => match number(0, 16, 2, 0) {
                    (_, 0) => field.push(b'x'),
                    (byte, _) => field.push(byte),
                },
                other => field.push(other),
            }
        }
        finish(&mut raw, &mut field)?;
        Ok(row)
    }

    fn unquote(&self, text: &str) -> Result<CopyRow> {
        let CopyFormat { delimiter, quote, escape, .. } = self.format;
        let mut row = Vec::new();
        let (mut field, mut quoted, mut was_quoted) = (Vec::new(), false, false);
        let mut finish = |field: &mut Vec<u8>, was_quoted: &mut bool| -> Result<()> {
            let value = std::mem::take(field);
            let is_null = !std::mem::take(was_quoted) && value == self.format.null.as_bytes();
            let text = String::from_utf8(value).map_err(|_| broken("CSV data is cut within a character"))?;
            row.push((!is_null).then_some(text));
            Ok(())
        };
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            match byte {
                byte if quoted && byte == escape && bytes.peek().is_some_and(|next| [quote, escape].contains(next)) => {
                    field.extend(bytes.next());
                }
                byte if byte == quote => (quoted, was_quoted) = (!quoted, true),
                byte if !quoted && byte == delimiter => finish(&mut field, &mut was_quoted)?,
                byte => field.push(byte),
            }
        }
        finish(&mut field, &mut was_quoted)?;
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::StatementKind;
    use crate::parse::parse;

    fn copy(sql: &str) -> Result<CopyStatement> {
        match parse(sql)?[0].kind() {
            StatementKind::Copy(copy) => Ok((**copy).clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Reads data that comes in pieces of every length.
    fn read(sql: &str, data: &str) -> Result<Vec<CopyRow>> {
        let copy = copy(sql)?;
        let mut answers: Vec<Result<Vec<CopyRow>>> = Vec::new();
        for size in 1..=data.len() {
            let mut reader = CopyReader::new(copy.format());
            let mut rows = Vec::new();
            let mut run = || -> Result<()> {
                for piece in data.as_bytes().chunks(size) {
                    reader.push(piece)?;
                    while let Some(row) = reader.next_row(false)? {
                        rows.push(row);
                    }
                }
                while let Some(row) = reader.next_row(true)? {
                    rows.push(row);
                }
                Ok(())
            };
            answers.push(run().map(|()| rows));
        }
        for pair in answers.windows(2) {
            assert_eq!(pair[0].as_ref().ok(), pair[1].as_ref().ok(), "{data:?}");
        }
        answers.swap_remove(0)
    }

    fn row(fields: &[&str]) -> CopyRow {
        fields.iter().map(|field| (*field != "NULL").then(|| field.to_string())).collect()
    }

    #[test]
    fn statements_say_what_they_copy() {
        let table = copy("COPY s.\"T\" (a, \"B\") FROM STDIN").unwrap();
        assert!(table.is_from_client());
        assert_eq!(table.insert_sql(2, 2), "INSERT INTO s.\"T\" (a, \"B\") VALUES ($1, $2), ($3, $4)");
        assert_eq!(table.select_sql(), "SELECT a, \"B\" FROM s.\"T\"");
        let query = copy("copy (select 1 as x) to stdout with (format csv, header)").unwrap();
        assert_eq!(query.select_sql(), "SELECT * FROM (SELECT 1 AS x) AS copied");
        assert!(query.format().has_header() && !query.is_from_client());
        assert!(copy("COPY t FROM STDIN WITH (FREEZE on, FORMAT csv, HEADER on)").unwrap().format().has_header());
        assert!(!copy("COPY t FROM STDIN (HEADER OFF)").unwrap().format().has_header());
        for refused in ["COPY t TO '/tmp/x'", "COPY t FROM PROGRAM 'ls'", "COPY t TO STDOUT (FORMAT binary)"] {
            assert_eq!(copy(refused).unwrap_err().state, SqlState::FEATURE_NOT_SUPPORTED, "{refused}");
        }
        for wrong in
            ["COPY t TO STDOUT (DELIMITER 'a')", "COPY t TO STDOUT (QUOTE '|')", "COPY t TO STDOUT (NULL '\t')"]
        {
            assert_eq!(copy(wrong).unwrap_err().state, SqlState::INVALID_PARAMETER_VALUE, "{wrong}");
        }
    }

    #[test]
    fn text_is_read_in_any_pieces() {
        let rows =
            read("COPY t FROM STDIN", "1\tann\t\\N\n2\tb\\tc\\\\\\n\\x41\\101\té\n\\\n\\N\n\\.\nrest\n").unwrap();
        assert_eq!(rows, [row(&["1", "ann", "NULL"]), row(&["2", "b\tc\\\nAA", "é"]), row(&["\\"]), row(&["NULL"])]);
        let rows = read("COPY t FROM STDIN DELIMITER ';' NULL 'nil'", "1;nil;\\;\r\nx;;").unwrap();
        assert_eq!(rows, [row(&["1", "NULL", ";"]), row(&["x", "", ""])]);
        assert_eq!(read("COPY t FROM STDIN", "a\\377\n").unwrap_err().state, SqlState::BAD_COPY_FILE_FORMAT);
    }

    #[test]
    fn csv_is_read_in_any_pieces() {
        let sql = "COPY t FROM STDIN WITH (FORMAT csv, HEADER true)";
        let rows = read(sql, "a,b\n1,\"x \"\"y\"\"\nz\"\n,\"\"\n\"é\",2").unwrap();
        assert_eq!(rows, [row(&["1", "x \"y\"\nz"]), row(&["NULL", ""]), row(&["é", "2"])]);
        let rows = read("COPY t FROM STDIN CSV QUOTE '''' ESCAPE '\\'", "'a\\'b\n',c\n").unwrap();
        assert_eq!(rows, [row(&["a'b\n", "c"])]);
        assert_eq!(read("COPY t FROM STDIN CSV", "\"abc\n").unwrap_err().state, SqlState::BAD_COPY_FILE_FORMAT);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let fields = ["", "NULL", "\\N", "a\tb\n\r\\", "\"", ",", "\\.", " é ", "x;y"];
        for options in
            ["", "(FORMAT csv)", "(DELIMITER ';', NULL 'nil')", "(FORMAT csv, QUOTE '''', ESCAPE '\\', NULL 'nil')"]
        {
            let writer = copy(&format!("COPY t TO STDOUT {options}")).unwrap();
            let mut out = Vec::new();
            writer.format().write_row(row(&fields).iter().map(Option::as_deref), &mut out);
            for field in fields {
                writer.format().write_row([row(&[field])[0].as_deref()], &mut out);
            }
            let text = String::from_utf8(out).unwrap();
            let rows = read(&format!("COPY t FROM STDIN {options}"), &text).unwrap();
            let expected: Vec<CopyRow> =
                std::iter::once(row(&fields)).chain(fields.map(|field| row(&[field]))).collect();
            assert_eq!(rows, expected, "{options}: {text:?}");
        }
    }
}
