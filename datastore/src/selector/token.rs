//! Selector text to tokens.

use super::ParseError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    All,
    And,
    CloseBrace,
    CloseParen,
    Comma,
    Contains,
    EndsWith,
    Equal,
    Global,
    Has(String),
    In,
    Label(String),
    Not,
    NotEqual,
    NotIn,
    OpenBrace,
    OpenParen,
    Or,
    StartsWith,
    Text(String),
}

/// A token and where it began.
pub(super) struct Spanned {
    pub(super) token: Token,
    pub(super) offset: usize,
}

/// The longest label name.
const MAX_LABEL: usize = 512;

pub(super) fn tokenize(text: &str) -> Result<Vec<Spanned>, ParseError> {
    let mut cursor = Cursor { text, offset: 0 };
    let mut tokens: Vec<Spanned> = Vec::new();
    loop {
        cursor.skip_blanks();
        let offset = cursor.offset;
        let Some(first) = cursor.rest().chars().next() else {
            return Ok(tokens);
        };
        // Operators spelled as words count only after a label: `in` and `contains` are labels too.
        let after_label =
            matches!(tokens.last(), Some(last) if matches!(last.token, Token::Label(_)));
        let token = match first {
            '(' => cursor.take("(", Token::OpenParen),
            ')' => cursor.take(")", Token::CloseParen),
            '{' => cursor.take("{", Token::OpenBrace),
            '}' => cursor.take("}", Token::CloseBrace),
            ',' => cursor.take(",", Token::Comma),
            '\'' | '"' => Some(cursor.quoted(first)?),
            '&' => cursor.take("&&", Token::And),
            '|' => cursor.take("||", Token::Or),
            '=' => cursor.take("==", Token::Equal),
            '!' => cursor
                .take("!=", Token::NotEqual)
                .or_else(|| cursor.take("!", Token::Not)),
            _ if after_label => cursor.word_operator(),
            _ => cursor.label_or_function(),
        };
        let Some(token) = token else {
            return Err(ParseError {
                offset,
                reason: format!("unexpected {first:?}"),
            });
        };
        tokens.push(Spanned { token, offset });
    }
}

struct Cursor<'a> {
    text: &'a str,
    offset: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &str {
        &self.text[self.offset..]
    }

    fn skip_blanks(&mut self) {
        self.offset += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    fn take(&mut self, literal: &str, token: Token) -> Option<Token> {
        self.rest().starts_with(literal).then(|| {
            self.offset += literal.len();
            token
        })
    }

    fn quoted(&mut self, quote: char) -> Result<Token, ParseError> {
        let start = self.offset;
        let body = &self.text[start + 1..];
        let Some(end) = body.find(quote) else {
            return Err(ParseError {
                offset: start,
                reason: "string is not closed".to_owned(),
            });
        };
        self.offset += end + 2;
        Ok(Token::Text(body[..end].to_owned()))
    }

    fn word_operator(&mut self) -> Option<Token> {
        // The longer spellings come first where one begins like another.
        self.take("contains", Token::Contains)
            .or_else(|| self.two_words("starts", "with", Token::StartsWith))
            .or_else(|| self.two_words("ends", "with", Token::EndsWith))
            .or_else(|| self.two_words("not", "in", Token::NotIn))
            .or_else(|| self.take("in", Token::In))
    }

    fn two_words(&mut self, first: &str, second: &str, token: Token) -> Option<Token> {
        let start = self.offset;
        if self.rest().starts_with(first) {
            self.offset += first.len();
            self.skip_blanks();
            if self.rest().starts_with(second) {
                self.offset += second.len();
                return Some(token);
            }
            self.offset = start;
        }
        None
    }

    fn label_or_function(&mut self) -> Option<Token> {
        for (name, token) in [("all", Token::All), ("global", Token::Global)] {
            if let Some(end) = self.call(name).and_then(|at| self.closing(at)) {
                self.offset = end;
                return Some(token);
            }
        }
        if let Some(at) = self.call("has") {
            let at = self.blanks_from(at);
            let length = label_len(&self.text[at..]);
            if (1..=MAX_LABEL).contains(&length)
                && let Some(end) = self.closing(at + length)
            {
                let label = self.text[at..at + length].to_owned();
                self.offset = end;
                return Some(Token::Has(label));
            }
            return None;
        }
        let length = label_len(self.rest());
        (1..=MAX_LABEL).contains(&length).then(|| {
            let label = self.rest()[..length].to_owned();
            self.offset += length;
            Token::Label(label)
        })
    }

    /// The offset behind `name(`, if that stands here.
    fn call(&self, name: &str) -> Option<usize> {
        let rest = self.rest().strip_prefix(name)?;
        rest.starts_with('(')
            .then_some(self.offset + name.len() + 1)
    }

    fn closing(&self, at: usize) -> Option<usize> {
        let at = self.blanks_from(at);
        self.text[at..].starts_with(')').then_some(at + 1)
    }

    fn blanks_from(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        at + rest.len() - rest.trim_start_matches([' ', '\t']).len()
    }
}

fn label_len(text: &str) -> usize {
    text.bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(byte))
        .count()
}
