//! From text to statements: a wrapper around the parser that owns positions, nesting and the kinds of statement.
//!
//! The parser underneath speaks of lines and columns, PostgreSQL of the 1-based *character* in what the client sent;
//! [`Source`] converts, so that every error of the binder can point into the text, several statements or not. The session
//! machine above us never sees the syntax tree: it asks [`Statement::kind`] for what concerns it (transaction control,
//! settings, roles) and hands the rest to [`prepare`](crate::prepare).
//!
//! Nesting is bounded twice before anything recursive runs. The parser counts nested brackets itself; long chains of
//! operators (`1+1+1+...`) don't nest for the parser but do for whoever walks or drops the tree, so they are counted over
//! the tokens first. Both answer 54001 instead of overflowing the stack.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::error::{Result, SqlError, SqlState};
use crate::kind::StatementKind;

/// Brackets, subqueries and other nesting that the parser follows.
const PARSE_DEPTH_MAX: usize = 60;
/// Brackets and CASEs around anything. Less than the parser would follow, since it does not always say when it gives up.
const BRACKETS_DEPTH_MAX: usize = 48;
/// Operators in one chain, such as the ANDs of one WHERE.
const OPERATOR_CHAIN_MAX: usize = 1_000;
/// Characters between two marks of a [`Source`].
const MARK_CHARS: usize = 256;

/// The text that a client sent, for converting positions. Each of a long statement's words may ask for its own, so the
/// places of lines and of every so many characters are noted once.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<Text>);

#[derive(Debug)]
struct Text {
    sql: String,
    /// Characters before each line.
    lines: Vec<usize>,
    /// The byte of every [`MARK_CHARS`]th character.
    marks: Vec<usize>,
    chars: usize,
}

impl Source {
    pub(crate) fn new(sql: &str) -> Self {
        let (mut lines, mut marks, mut chars) = (vec![0], vec![], 0usize);
        for (byte, c) in sql.char_indices() {
            if chars.is_multiple_of(MARK_CHARS) {
                marks.push(byte);
            }
            chars += 1;
            if c == '\n' {
                lines.push(chars);
            }
        }
        Source(Arc::new(Text { sql: sql.to_owned(), lines, marks, chars }))
    }

    /// The 1-based character of a location, or nothing when the parser does not know it.
    pub(crate) fn position(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        Some(match self.0.lines.get(line) {
            Some(before) => before + location.column as usize,
            None => self.0.chars + 1,
        })
    }

    /// The position behind the last character.
    fn end(&self) -> usize {
        self.0.chars + 1
    }

    fn byte(&self, location: Location) -> usize {
        let end = self.0.sql.len();
        let Some(chars) = self.position(location).and_then(|position| position.checked_sub(1)) else { return end };
        let Some(mark) = self.0.marks.get(chars / MARK_CHARS) else { return end };
        self.0.sql[*mark..].char_indices().nth(chars % MARK_CHARS).map_or(end, |(at, _)| mark + at)
    }
}

/// One statement of what a client sent.
#[derive(Clone, Debug)]
pub struct Statement {
    source: Source,
    start: usize,
    end: usize,
    /// Shared by whatever is prepared from it: a long one is deep, too, and is not copied.
    ast: Arc<ast::Statement>,
    kind: StatementKind,
}

impl Statement {
    /// The statement's own text, without the semicolon.
    pub fn text(&self) -> &str {
        self.source.0.sql[self.start..self.end].trim_end()
    }

    /// Where [`text`](Self::text) begins in what the client sent, in bytes.
    pub fn offset(&self) -> usize {
        self.start
    }

    /// What the statement is, as far as a session machine has to know.
    pub fn kind(&self) -> &StatementKind {
        &self.kind
    }

    pub(crate) fn ast(&self) -> &ast::Statement {
        &self.ast
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }
}

/// Parses what a client sent: any number of statements separated by semicolons.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    let source = Source::new(sql);
    let dialect = PostgreSqlDialect {};
    let mut tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|error| {
        let location = error.location;
        let position = source.position(location);
        SqlError::new(SqlState::SYNTAX_ERROR, lower_first(&error.message)).at(position)
    })?;
    check_chains(&tokens, &source)?;
    let users = users_as_roles(&mut tokens);
    let mut statements = Vec::new();
    let mut parts = parts(tokens).into_iter().peekable();
    while let Some(part) = parts.next() {
        let behind = parts.peek().and_then(|part| part.first()).map(|token| token.span.start);
        let parser = Parser::new(&dialect).with_recursion_limit(PARSE_DEPTH_MAX);
        parse_part(parser.with_tokens_with_locations(part), behind, &users, &source, &mut statements)?;
    }
    Ok(statements)
}

/// Parses the statements of one part of what a client sent.
fn parse_part(
    mut parser: Parser<'_>,
    behind: Option<Location>,
    users: &[Location],
    source: &Source,
    statements: &mut Vec<Statement>,
) -> Result<()> {
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        let first = parser.peek_token();
        if first.token == Token::EOF {
            return Ok(());
        }
        let ast = parser.parse_statement().map_err(|error| syntax_error(error, source))?;
        let next = parser.peek_token();
        let end = match next.token {
            Token::SemiColon => source.byte(next.span.start),
            Token::EOF => behind.map_or(source.0.sql.len(), |location| source.byte(location)),
            _ => return Err(near(&next, source)),
        };
        let mut kind = crate::kind::kind_of(&ast, source)?;
        if let StatementKind::Role(role) = &mut kind
            && users.contains(&first.span.start)
        {
            // What sets a user apart from a role.
            role.login = role.login.or(Some(true));
        }
        statements.push(Statement {
            start: source.byte(first.span.start),
            end,
            source: source.clone(),
            ast: Arc::new(ast),
            kind,
        });
    }
}

/// Cuts before each semicolon that ends a COPY, behind which the parser would look for its data, as a file has it; and
/// writes a COPY as the parser wants it. Of VACUUM and ANALYZE, which do nothing here, nothing else is looked at.
fn parts(tokens: Vec<TokenWithSpan>) -> Vec<Vec<TokenWithSpan>> {
    let mut parts = vec![vec![]];
    let (mut begins, mut copies, mut idle, mut option) = (true, false, false, Keyword::NoKeyword);
    for mut token in tokens {
        if copies && let Token::Word(word) = &token.token {
            // The parser takes no ON and OFF for the truth of an option.
            let (before, value) = (std::mem::replace(&mut option, word.keyword), word.value.to_lowercase());
            if matches!(before, Keyword::FREEZE | Keyword::HEADER) && matches!(value.as_str(), "on" | "off") {
                token.token = Token::make_keyword(if value == "on" { "TRUE" } else { "FALSE" });
            }
        }
        match &token.token {
            Token::Whitespace(_) => {}
            Token::SemiColon => {
                if copies {
                    parts.push(vec![]);
                }
                (begins, copies, idle) = (true, false, false);
            }
            _ if idle => continue,
            Token::Word(word) if begins => {
                (begins, copies) = (false, word.keyword == Keyword::COPY);
                idle = matches!(word.keyword, Keyword::VACUUM | Keyword::ANALYZE);
            }
            _ => begins = false,
        }
        parts.last_mut().expect("there is one to begin with").push(token);
    }
    parts
}

/// `CREATE USER` and `ALTER USER` are other words for `CREATE ROLE ... LOGIN` and `ALTER ROLE`, which the parser understands
/// better. Answers where the created ones begin.
fn users_as_roles(tokens: &mut [TokenWithSpan]) -> Vec<Location> {
    let mut created = Vec::new();
    let words: Vec<usize> = (0..tokens.len()).filter(|at| !matches!(tokens[*at].token, Token::Whitespace(_))).collect();
    for (number, pair) in words.windows(2).enumerate() {
        let begins = number == 0 || tokens[words[number - 1]].token == Token::SemiColon;
        let keyword = |at: usize| match &tokens[at].token {
            Token::Word(word) => word.keyword,
            _ => Keyword::NoKeyword,
        };
        let (first, second) = (keyword(pair[0]), keyword(pair[1]));
        if begins && matches!(first, Keyword::CREATE | Keyword::ALTER) && second == Keyword::USER {
            if first == Keyword::CREATE {
                created.push(tokens[pair[0]].span.start);
            }
            tokens[pair[1]].token = Token::make_keyword("ROLE");
        }
    }
    created
}

/// Parses an expression that stands in the catalog (a default, a check).
pub(crate) fn parse_expression(sql: &str) -> Result<ast::Expr> {
    let source = Source::new(sql);
    let dialect = PostgreSqlDialect {};
    Parser::new(&dialect)
        .with_recursion_limit(PARSE_DEPTH_MAX)
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(|error| syntax_error(error, &source))
}

/// `syntax error at or near "x"`, as PostgreSQL says it.
fn near(token: &TokenWithSpan, source: &Source) -> SqlError {
    let error = match token.token {
        Token::EOF => SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input"),
        _ => SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{}\"", token.token)),
    };
    error.at(source.position(token.span.start).or(Some(source.end())))
}

/// The parser's errors are sentences that end in the place; take both apart.
fn syntax_error(error: ParserError, source: &Source) -> SqlError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => {
            let message = "statement is nested too deeply";
            let hint = format!("At most {PARSE_DEPTH_MAX} levels of nesting are followed.");
            return SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message).with_hint(hint);
        }
    };
    let (sentence, location) = match text.rsplit_once(" at Line: ") {
        Some((sentence, place)) => (sentence.to_string(), parse_location(place)),
        None => (text, None),
    };
    let position = location.and_then(|location| source.position(location)).unwrap_or_else(|| source.end());
    let (message, detail) = match sentence.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found: ")) {
        Some((expected, "EOF")) => ("syntax error at end of input".to_string(), Some(expected.to_string())),
        Some((expected, found)) => (format!("syntax error at or near \"{found}\""), Some(expected.to_string())),
        None => (format!("syntax error: {}", lower_first(&sentence)), None),
    };
    let error = SqlError::new(SqlState::SYNTAX_ERROR, message).at(Some(position));
    match detail {
        Some(expected) => error.with_detail(format!("Expected {expected}.")),
        None => error,
    }
}

fn parse_location(place: &str) -> Option<Location> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// Refuses chains of operators that would make a tree too deep to walk: within an item of a list, and of whole queries,
/// which contain lists.
fn check_chains(tokens: &[TokenWithSpan], source: &Source) -> Result<()> {
    let mut counts = vec![Chain::default()];
    let mut bracket_before = false;
    let mut cases = 0usize;
    for token in tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))) {
        if let Token::Word(word) = &token.token {
            match word.keyword {
                Keyword::CASE => cases += 1,
                Keyword::END => cases = cases.saturating_sub(1),
                _ => {}
            }
        }
        if counts.len() + cases > BRACKETS_DEPTH_MAX + 1 {
            return Err(too_deep(token, source));
        }
        let behind_bracket = std::mem::replace(&mut bracket_before, token.token == Token::RBracket);
        let outermost = counts.len() == 1;
        let chain = counts.last_mut().expect("the outermost level is never popped");
        match &token.token {
            Token::LParen => counts.push(Chain::default()),
            // One dimension or subscript more of what stands before it.
            Token::LBracket => {
                chain.subscripts = if behind_bracket { chain.subscripts + 1 } else { 1 };
                if chain.subscripts > BRACKETS_DEPTH_MAX {
                    return Err(too_deep(token, source));
                }
                counts.push(Chain::default());
            }
            Token::RParen | Token::RBracket if !outermost => {
                counts.pop();
            }
            Token::Comma => chain.operators = 0,
            Token::SemiColon => *chain = Chain::default(),
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Period => {}
            Token::Placeholder(_) | Token::RParen | Token::RBracket | Token::EOF => {}
            Token::Word(word) if !is_operator_word(word.keyword) => {}
            Token::Word(word) if matches!(word.keyword, Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT) => {
                chain.queries += 1;
                chain.operators = 0;
                chain.check(token, source)?;
            }
            _ => {
                chain.operators += 1;
                chain.check(token, source)?;
            }
        }
    }
    Ok(())
}

fn too_deep(token: &TokenWithSpan, source: &Source) -> SqlError {
    let hint = format!("At most {BRACKETS_DEPTH_MAX} levels of brackets and CASE are followed.");
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "statement is nested too deeply")
        .at(source.position(token.span.start))
        .with_hint(hint)
}

/// What follows each other at one level of brackets.
#[derive(Default)]
struct Chain {
    operators: usize,
    queries: usize,
    subscripts: usize,
}

impl Chain {
    fn check(&self, token: &TokenWithSpan, source: &Source) -> Result<()> {
        if self.operators.max(self.queries) <= OPERATOR_CHAIN_MAX {
            return Ok(());
        }
        let hint = format!("At most {OPERATOR_CHAIN_MAX} operators in a row; use IN (...) or = ANY(...).");
        Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "expression has too many operators")
            .at(source.position(token.span.start))
            .with_hint(hint))
    }
}

fn is_operator_word(keyword: Keyword) -> bool {
    use Keyword as K;
    matches!(
        keyword,
        K::AND
            | K::OR
            | K::NOT
            | K::IS
            | K::LIKE
            | K::ILIKE
            | K::UNION
            | K::EXCEPT
            | K::INTERSECT
            | K::BETWEEN
            | K::COLLATE
            | K::AT
            | K::JOIN
            | K::CASE
            | K::SIMILAR
            | K::IN
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_statements_keep_their_text() {
        let statements = parse("select 1; ; insert into t values ('é') ;").unwrap();
        let texts: Vec<&str> = statements.iter().map(Statement::text).collect();
        assert_eq!(texts, ["select 1", "insert into t values ('é')"]);
        assert!(parse(" ; -- nothing\n").unwrap().is_empty());
        let statements = parse("vacuum (analyze, verbose) t, u; analyze t (a); vacuum analyze t; vacuum full").unwrap();
        let texts: Vec<&str> = statements.iter().map(Statement::text).collect();
        assert_eq!(texts, ["vacuum (analyze, verbose) t, u", "analyze t (a)", "vacuum analyze t", "vacuum full"]);
        assert_eq!(*statements[1].kind(), StatementKind::Nothing("ANALYZE"));
        assert_eq!(*statements[2].kind(), StatementKind::Nothing("VACUUM"));
        let statements = parse("copy t from stdin; select 1; copy t to stdout").unwrap();
        let texts: Vec<&str> = statements.iter().map(Statement::text).collect();
        assert_eq!(texts, ["copy t from stdin", "select 1", "copy t to stdout"]);
    }

    #[test]
    fn users_are_roles_that_log_in() {
        let role = |sql: &str| match parse(sql).unwrap()[0].kind() {
            StatementKind::Role(role) => (role.names.clone(), role.login, role.password.clone()),
            other => panic!("{other:?}"),
        };
        let ann = || vec!["ann".to_string()];
        let password = || Some(Some("x".to_string()));
        assert_eq!(role("create user ann password 'x'"), (ann(), Some(true), password()));
        assert_eq!(role("create user ann with nologin"), (ann(), Some(false), None));
        assert_eq!(role("create role ann password 'x'"), (ann(), None, password()));
        assert_eq!(
            role("select 1; alter user ann with password 'x'".split_once(';').unwrap().1),
            (ann(), None, password())
        );
        let statements = parse("create table user_ (a int); create user ann; create role bob").unwrap();
        let login = |at: usize| match statements[at].kind() {
            StatementKind::Role(role) => role.login,
            other => panic!("{other:?}"),
        };
        assert_eq!((login(1), login(2)), (Some(true), None));
    }

    #[test]
    fn positions_count_characters() {
        let error = parse("select 'äöü',\n 'é' frm frm t").unwrap_err();
        assert_eq!((error.state, error.position), (SqlState::SYNTAX_ERROR, Some(24)));
        let error = parse("select").unwrap_err();
        assert_eq!(error.state, SqlState::SYNTAX_ERROR, "{}", error.message);
    }

    #[test]
    fn places_are_found_in_long_texts() {
        let row = "('é', 'long enough to pass some marks on the way, and with an ü')";
        let sql = format!("insert into t values {};\nselect 'ö' from t; select 1", vec![row; 300].join(",\n"));
        let statements = parse(&sql).unwrap();
        let texts: Vec<&str> = statements[1..].iter().map(Statement::text).collect();
        assert_eq!(texts, ["select 'ö' from t", "select 1"]);
        assert_eq!(statements[2].offset(), sql.len() - "select 1".len());
        let error = parse(&format!("{sql} +")).unwrap_err();
        assert_eq!(error.position, Some(sql.chars().count() + 3));
        let source = Source::new(&sql);
        let last = Location { line: 301, column: 1 };
        assert_eq!(source.byte(last), sql.find("select").unwrap());
        assert_eq!(source.byte(Location { line: 999, column: 1 }), sql.len());
        assert_eq!(source.position(Location { line: 0, column: 0 }), None);
    }

    #[test]
    fn deep_nesting_is_refused_on_a_small_stack() {
        let run = || {
            for depth in [100, 1_000, 100_000] {
                let nested = format!("select {}1{}", "(".repeat(depth), ")".repeat(depth));
                assert_eq!(parse(&nested).unwrap_err().state, SqlState::STATEMENT_TOO_COMPLEX);
                let subqueries = format!("select {}1{}", "(select ".repeat(depth), ")".repeat(depth));
                assert_eq!(parse(&subqueries).unwrap_err().state, SqlState::STATEMENT_TOO_COMPLEX);
            }
            for unit in ["+1", " and true", "::int", " union select 1", " union select 1, 2", "- -1", " is null", "[1]"]
            {
                let chain = format!("select 1{}", unit.repeat(50_000));
                assert_eq!(parse(&chain).unwrap_err().state, SqlState::STATEMENT_TOO_COMPLEX, "{unit}");
            }
            let dimensions = format!("select null::int{}", "[]".repeat(50_000));
            assert_eq!(parse(&dimensions).unwrap_err().state, SqlState::STATEMENT_TOO_COMPLEX);
            let nots = format!("select {} true", "not ".repeat(50_000));
            assert_eq!(parse(&nots).unwrap_err().state, SqlState::STATEMENT_TOO_COMPLEX);
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
    }
}
