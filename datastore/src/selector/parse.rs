//! Tokens to a tree, by descent of bounded depth.

use std::iter::Peekable;

use super::{
    Expression, MAX_LEN, ParseError,
    token::{Spanned, Token, tokenize},
};

/// How deep parentheses may nest. The text's length bounds it too, but a stack should not depend on that.
const MAX_DEPTH: usize = 128;

pub(super) fn parse(text: &str) -> Result<Expression, ParseError> {
    if text.chars().count() > MAX_LEN {
        return Err(ParseError {
            offset: MAX_LEN,
            reason: format!("longer than {MAX_LEN} characters"),
        });
    }
    let tokens = tokenize(text)?;
    if tokens.is_empty() {
        return Ok(Expression::All);
    }
    let mut parser = Parser {
        tokens: tokens.into_iter().peekable(),
        end: text.len(),
        depth: 0,
    };
    let expression = parser.or()?;
    match parser.tokens.next() {
        None => Ok(expression),
        Some(extra) => Err(ParseError {
            offset: extra.offset,
            reason: "expected the end".to_owned(),
        }),
    }
}

struct Parser {
    tokens: Peekable<std::vec::IntoIter<Spanned>>,
    end: usize,
    depth: usize,
}

impl Parser {
    fn or(&mut self) -> Result<Expression, ParseError> {
        let mut operands = vec![self.and()?];
        while self.eat(&Token::Or) {
            operands.push(self.and()?);
        }
        Ok(Expression::or(operands))
    }

    fn and(&mut self) -> Result<Expression, ParseError> {
        let mut operands = vec![self.unary()?];
        while self.eat(&Token::And) {
            operands.push(self.unary()?);
        }
        Ok(Expression::and(operands))
    }

    fn unary(&mut self) -> Result<Expression, ParseError> {
        let mut negated = false;
        while self.eat(&Token::Not) {
            negated = !negated;
        }
        let operand = self.primary()?;
        // Two negations are none, also with parentheses between: they would be gone from the canonical form.
        if !negated {
            return Ok(operand);
        }
        if let Expression::Not(inner) = operand {
            return Ok(*inner);
        }
        Ok(Expression::Not(Box::new(operand)))
    }

    fn primary(&mut self) -> Result<Expression, ParseError> {
        let (token, offset) = self.next("an expression")?;
        match token {
            Token::All => Ok(Expression::All),
            Token::Global => Ok(Expression::Global),
            Token::Has(label) => Ok(Expression::Has(label)),
            Token::Label(label) => self.operator(label),
            Token::OpenParen => {
                if self.depth == MAX_DEPTH {
                    return Err(ParseError {
                        offset,
                        reason: format!("more than {MAX_DEPTH} nested parentheses"),
                    });
                }
                self.depth += 1;
                let inner = self.or()?;
                self.depth -= 1;
                let (token, offset) = self.next("`)`")?;
                if token == Token::CloseParen {
                    Ok(inner)
                } else {
                    Err(expected("`)`", offset))
                }
            }
            Token::And
            | Token::CloseBrace
            | Token::CloseParen
            | Token::Comma
            | Token::Contains
            | Token::EndsWith
            | Token::Equal
            | Token::In
            | Token::Not
            | Token::NotEqual
            | Token::NotIn
            | Token::OpenBrace
            | Token::Or
            | Token::StartsWith
            | Token::Text(_) => Err(expected("an expression", offset)),
        }
    }

    fn operator(&mut self, label: String) -> Result<Expression, ParseError> {
        let (token, offset) = self.next("an operator")?;
        match token {
            Token::Equal => Ok(Expression::Equal(label, self.text()?)),
            Token::NotEqual => Ok(Expression::NotEqual(label, self.text()?)),
            Token::Contains => Ok(Expression::Contains(label, self.text()?)),
            Token::StartsWith => Ok(Expression::StartsWith(label, self.text()?)),
            Token::EndsWith => Ok(Expression::EndsWith(label, self.text()?)),
            Token::In => Ok(Expression::In(label, self.set()?)),
            Token::NotIn => Ok(Expression::NotIn(label, self.set()?)),
            Token::All
            | Token::And
            | Token::CloseBrace
            | Token::CloseParen
            | Token::Comma
            | Token::Global
            | Token::Has(_)
            | Token::Label(_)
            | Token::Not
            | Token::OpenBrace
            | Token::OpenParen
            | Token::Or
            | Token::Text(_) => Err(expected("an operator", offset)),
        }
    }

    fn text(&mut self) -> Result<String, ParseError> {
        match self.next("a string")? {
            (Token::Text(text), _) => Ok(text),
            (_, offset) => Err(expected("a string", offset)),
        }
    }

    fn set(&mut self) -> Result<std::collections::BTreeSet<String>, ParseError> {
        let (token, offset) = self.next("a set")?;
        if token != Token::OpenBrace {
            return Err(expected("a set", offset));
        }
        let mut members = std::collections::BTreeSet::new();
        while !self.eat(&Token::CloseBrace) {
            members.insert(self.text()?);
            if !self.eat(&Token::Comma) {
                let (token, offset) = self.next("`}`")?;
                return if token == Token::CloseBrace {
                    Ok(members)
                } else {
                    Err(expected("`}`", offset))
                };
            }
        }
        Ok(members)
    }

    fn eat(&mut self, wanted: &Token) -> bool {
        self.tokens
            .next_if(|spanned| spanned.token == *wanted)
            .is_some()
    }

    fn next(&mut self, wanted: &str) -> Result<(Token, usize), ParseError> {
        let end = self.end;
        self.tokens
            .next()
            .map(|spanned| (spanned.token, spanned.offset))
            .ok_or_else(|| expected(wanted, end))
    }
}

fn expected(what: &str, offset: usize) -> ParseError {
    ParseError {
        offset,
        reason: format!("expected {what}"),
    }
}
