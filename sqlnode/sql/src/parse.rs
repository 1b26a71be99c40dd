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

/// The text that a client sent, for converting positions.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<str>);

impl Source {
    pub(crate) fn new(sql: &str) -> Self {
        Source(sql.into())
    }

    /// The 1-based character of a location, or nothing when the parser does not know it.
    pub(crate) fn position(&self, location: Location) -> Option<usize> {
        if location.line == 0 {
            return None;
        }
        let mut before = 0;
        for (number, line) in self.0.split('\n').enumerate() {
            if number as u64 + 1 == location.line {
                return Some(before + location.column as usize);
            }
            before += line.chars().count() + 1;
        }
        Some(before.max(1))
    }

    fn byte(&self, location: Location) -> usize {
        match self.position(location) {
            Some(position) => self.0.char_indices().nth(position - 1).map_or(self.0.len(), |(at, _)| at),
            None => self.0.len(),
        }
    }
}

/// One statement of what a client sent.
#[derive(Clone, Debug)]
pub struct Statement {
    source: Source,
    start: usize,
    end: usize,
    ast: ast::Statement,
    kind: StatementKind,
}

impl Statement {
    /// The statement's own text, without the semicolon.
    pub fn text(&self) -> &str {
        self.source.0[self.start..self.end].trim_end()
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
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|error| {
        let location = error.location;
        let position = source.position(location);
        SqlError::new(SqlState::SYNTAX_ERROR, lower_first(&error.message)).at(position)
    })?;
    check_chains(&tokens, &source)?;
    let mut parser = Parser::new(&dialect).with_recursion_limit(PARSE_DEPTH_MAX).with_tokens_with_locations(tokens);
    let mut statements = Vec::new();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        let first = parser.peek_token();
        if first.token == Token::EOF {
            return Ok(statements);
        }
        let ast = parser.parse_statement().map_err(|error| syntax_error(error, &source))?;
        let next = parser.peek_token();
        let end = match next.token {
            Token::SemiColon => source.byte(next.span.start),
            Token::EOF => sql.len(),
            _ => return Err(near(&next, &source)),
        };
        let kind = crate::kind::kind_of(&ast, &source)?;
        statements.push(Statement { start: source.byte(first.span.start), end, source: source.clone(), ast, kind });
    }
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
    error.at(source.position(token.span.start).or(Some(source.0.chars().count() + 1)))
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
    let end = source.0.chars().count() + 1;
    let position = location.and_then(|location| source.position(location)).unwrap_or(end);
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

/// Refuses chains of operators that would make a tree too deep to walk.
fn check_chains(tokens: &[TokenWithSpan], source: &Source) -> Result<()> {
    let mut counts = vec![0usize];
    let mut cases = 0usize;
    for token in tokens {
        if let Token::Word(word) = &token.token {
            match word.keyword {
                Keyword::CASE => cases += 1,
                Keyword::END => cases = cases.saturating_sub(1),
                _ => {}
            }
        }
        if counts.len() + cases > BRACKETS_DEPTH_MAX + 1 {
            let hint = format!("At most {BRACKETS_DEPTH_MAX} levels of brackets and CASE are followed.");
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "statement is nested too deeply")
                .at(source.position(token.span.start))
                .with_hint(hint));
        }
        match &token.token {
            Token::LParen | Token::LBracket => counts.push(0),
            Token::RParen | Token::RBracket if counts.len() > 1 => {
                counts.pop();
            }
            Token::Comma | Token::SemiColon => {
                if let Some(count) = counts.last_mut() {
                    *count = 0;
                }
            }
            Token::Whitespace(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Period => {}
            Token::Placeholder(_) | Token::RParen | Token::RBracket | Token::EOF => {}
            Token::Word(word) if !is_operator_word(word.keyword) => {}
            _ => {
                let count = counts.last_mut().expect("the outermost level is never popped");
                *count += 1;
                if *count > OPERATOR_CHAIN_MAX {
                    let hint = format!("At most {OPERATOR_CHAIN_MAX} operators in a row; use IN (...) or = ANY(...).");
                    return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "expression has too many operators")
                        .at(source.position(token.span.start))
                        .with_hint(hint));
                }
            }
        }
    }
    Ok(())
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
    }

    #[test]
    fn positions_count_characters() {
        let error = parse("select 'äöü',\n 'é' frm frm t").unwrap_err();
        assert_eq!((error.state, error.position), (SqlState::SYNTAX_ERROR, Some(24)));
        let error = parse("select").unwrap_err();
        assert_eq!(error.state, SqlState::SYNTAX_ERROR, "{}", error.message);
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
            for unit in ["+1", " and true", "::int", " union select 1", "- -1", " is null"] {
                let chain = format!("select 1{}", unit.repeat(50_000));
                assert_eq!(parse(&chain).unwrap_err().state, SqlState::STATEMENT_TOO_COMPLEX, "{unit}");
            }
            let nots = format!("select {} true", "not ".repeat(50_000));
            assert_eq!(parse(&nots).unwrap_err().state, SqlState::STATEMENT_TOO_COMPLEX);
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
    }
}
