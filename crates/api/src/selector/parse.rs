//! The grammar of label selectors in query strings.
//!
//! ```text
//! selector    ::= requirement | requirement "," selector
//! requirement ::= ["!"] KEY [ set | exact ]
//! set         ::= ("in" | "notin") "(" [ VALUE { "," VALUE } ] ")"
//! exact       ::= ("=" | "==" | "!=" | ">" | "<") [ VALUE ]
//! ```

use super::{Error, Operator, Requirement};

const BINARY: &str = "in, notin, =, ==, !=, gt, lt";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Open,
    Close,
    Bang,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(s) => s,
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::Bang => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::End => "",
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, Error> {
    let mut parser = Parser { tokens: lex(text), at: 0 };
    parser.selector().map_err(Error::Parse)
}

fn lex(text: &str) -> Vec<Token> {
    let special = |c: char| "=!(),><".contains(c);
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if special(first) {
            // Only comparisons are longer than one character; brackets and commas stand alone.
            let run = rest.find(|c: char| !"=!><".contains(c)).unwrap_or(rest.len());
            longest_operator(&rest[..run.max(1)])
        } else {
            rest.find(|c: char| special(c) || c.is_whitespace()).unwrap_or(rest.len())
        };
        tokens.push(token(&rest[..end]));
        rest = rest[end..].trim_start();
    }
    tokens.push(Token::End);
    tokens
}

fn longest_operator(run: &str) -> usize {
    if run.starts_with("==") || run.starts_with("!=") { 2 } else { 1 }
}

fn token(text: &str) -> Token {
    match text {
        "," => Token::Comma,
        "(" => Token::Open,
        ")" => Token::Close,
        "!" => Token::Bang,
        "=" => Token::Equals,
        "==" => Token::DoubleEquals,
        "!=" => Token::NotEquals,
        ">" => Token::Greater,
        "<" => Token::Less,
        word => Token::Word(word.to_owned()),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut found = Vec::new();
        if *self.peek() == Token::End {
            return Ok(found);
        }
        loop {
            match self.peek() {
                Token::Word(_) | Token::Bang => found.push(self.requirement()?),
                other => return Err(expected(other, "!, identifier, or 'end of string'")),
            }
            match self.next() {
                Token::End => return Ok(found),
                Token::Comma if matches!(self.peek(), Token::Word(_) | Token::Bang) => {}
                Token::Comma => return Err(format!("found '{}', expected: identifier after ','", self.peek().text())),
                other => return Err(expected(&other, "',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = *self.peek() == Token::Bang;
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(expected(&other, "identifier")),
        };
        if matches!(self.peek(), Token::End | Token::Comma) {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement::new(&key, operator, Vec::new());
        }
        if negated {
            return Err(expected(self.peek(), "',' or 'end of string'"));
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => vec![self.exact()?],
        };
        Requirement::new(&key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        Ok(match self.next() {
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            Token::Word(word) if word == "in" => Operator::In,
            Token::Word(word) if word == "notin" => Operator::NotIn,
            other => return Err(expected(&other, BINARY)),
        })
    }

    /// `(a,b)`; an empty place between commas is an empty value.
    fn set(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Open => {}
            other => return Err(expected(&other, "'('")),
        }
        if *self.peek() == Token::Close {
            self.next();
            return Ok(Vec::new());
        }
        let mut values = Vec::new();
        loop {
            let value = match self.peek() {
                Token::Word(word) => {
                    let word = word.clone();
                    self.next();
                    word
                }
                Token::Comma | Token::Close => String::new(),
                other => return Err(expected(other, "',', ')' or identifier")),
            };
            if !values.contains(&value) {
                values.push(value);
            }
            match self.next() {
                Token::Comma => {}
                Token::Close => return Ok(values),
                other => return Err(expected(&other, "',' or ')'")),
            }
        }
    }

    /// Nothing after the sign is the empty value.
    fn exact(&mut self) -> Result<String, String> {
        match self.peek().clone() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word)
            }
            other => Err(expected(&other, "identifier")),
        }
    }
}

fn expected(found: &Token, wanted: &str) -> String {
    format!("found '{}', expected: {wanted}", found.text())
}
