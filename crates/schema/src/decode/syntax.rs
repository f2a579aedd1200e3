//! What is wrong with a text that should be JSON, in the words of Go's `encoding/json`, which clients know and match.

type Checked = Result<(), String>;

/// `None`: the text is well formed.
pub fn error(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.document().err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn document(&mut self) -> Checked {
        self.blanks();
        self.value(0)?;
        self.blanks();
        if self.at < self.text.len() { Err(self.invalid("after top-level value")) } else { Ok(()) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn invalid(&self, context: &str) -> String {
        let Some(byte) = self.peek() else { return "unexpected end of JSON input".to_owned() };
        let shown = match byte {
            b'\'' => r"'\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            b'\n' => r"'\n'".to_owned(),
            b'\t' => r"'\t'".to_owned(),
            b'\r' => r"'\r'".to_owned(),
            b'\\' => r"'\\'".to_owned(),
            0x20..=0x7e => format!("'{}'", char::from(byte)),
            0..=0x1f | 0x7f => format!(r"'\x{byte:02x}'"),
            // Go shows the byte as if it were a code point.
            _ => match char::from(byte) {
                shown if shown.is_control() => format!(r"'\u{byte:04x}'"),
                shown => format!("'{shown}'"),
            },
        };
        format!("invalid character {shown} {context}")
    }

    fn value(&mut self, depth: usize) -> Checked {
        const MAX_DEPTH: usize = 10_000;
        if depth > MAX_DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    fn object(&mut self, depth: usize) -> Checked {
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.invalid("looking for beginning of object key string"));
            }
            self.string()?;
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.invalid("after object key"));
            }
            self.at += 1;
            self.blanks();
            self.value(depth + 1)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.invalid("after object key:value pair")),
            }
            self.blanks();
        }
    }

    fn array(&mut self, depth: usize) -> Checked {
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.invalid("after array element")),
            }
            self.blanks();
        }
    }

    fn string(&mut self) -> Checked {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                None | Some(0..0x20) => return Err(self.invalid("in string literal")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Checked {
        self.at += 1;
        match self.peek() {
            Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                        return Err(self.invalid(r"in \u hexadecimal character escape"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.invalid("in string escape code")),
        }
        Ok(())
    }

    fn digits(&mut self, context: &str) -> Checked {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.invalid(context));
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Checked {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Checked {
        for letter in word.bytes() {
            if self.peek() != Some(letter) {
                return Err(self.invalid(&format!("in literal {word} (expecting '{}')", char::from(letter))));
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::error;

    #[test]
    fn go_words() {
        let check = |text: &str, expected: &str| assert_eq!(error(text.as_bytes()).unwrap_or_default(), expected);
        check(r#" {"a": [1, -2.5e+3, "x\u00e9\n", true, false, null, {}], "b": []} "#, "");
        check("", "unexpected end of JSON input");
        check(r#"{"a": "#, "unexpected end of JSON input");
        check("nope", "invalid character 'o' in literal null (expecting 'u')");
        check("hello", "invalid character 'h' looking for beginning of value");
        check("{a: 1}", "invalid character 'a' looking for beginning of object key string");
        check(r#"{"a" 1}"#, "invalid character '1' after object key");
        check(r#"{"a": 1 "b"}"#, "invalid character '\"' after object key:value pair");
        check(r#"{"a": 1,}"#, "invalid character '}' looking for beginning of object key string");
        check("[1 2]", "invalid character '2' after array element");
        check("{}x", "invalid character 'x' after top-level value");
        check("\"a\nb\"", r"invalid character '\n' in string literal");
        check(r#""\q""#, "invalid character 'q' in string escape code");
        check(r#""\u12g4""#, r"invalid character 'g' in \u hexadecimal character escape");
        check("-x", "invalid character 'x' in numeric literal");
        check("1.x", "invalid character 'x' after decimal point in numeric literal");
        check("01", "invalid character '1' after top-level value");
        check("{'a': 1}", r"invalid character '\'' looking for beginning of object key string");
    }
}
