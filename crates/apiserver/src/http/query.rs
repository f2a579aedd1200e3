//! Query parameters, decoded once.

use api::ApiError;

#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(raw: &str) -> Self {
        Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A parameter that is there and not empty.
    pub fn filled(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|v| !v.is_empty())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter()
    }

    /// Booleans as upstream's conversion reads them: present counts, unless it says no.
    pub fn truthy(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    pub fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.filled(key) else { return Ok(None) };
        let parsed = text
            .parse()
            .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        Ok(Some(parsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let q = Query::parse("watch=1&a=&b=x%2Cy&b=z&no=false&n=12");
        assert!(q.truthy("watch") && !q.truthy("no") && !q.truthy("missing"));
        assert_eq!((q.get("a"), q.filled("a"), q.get("b")), (Some(""), None, Some("x,y")));
        assert_eq!(q.all("b").collect::<Vec<_>>(), ["x,y", "z"]);
        assert_eq!(q.integer("n").expect("a number"), Some(12));
        assert!(q.integer("b").is_err());
    }
}
