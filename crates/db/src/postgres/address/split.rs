//! The parts of an address: credentials, hosts, database, parameters.

/// The parts of an address after its scheme, still percent-encoded.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) hosts: &'a str,
    pub(super) dbname: &'a str,
    query: &'a str,
}

const AMBIGUOUS: &str = "the address can be read in more than one way, because a password has special characters: \
                         percent-encode them (@ is %40, / is %2F, # is %23, ? is %3F)";

impl<'a> Parts<'a> {
    /// As libpq does: credentials end at the first `@`, unless a `/` comes before it. Where that leaves an `@` in what
    /// would be the host, which no host has, or a port that is no number before an `@`, the credentials go on to the
    /// last `@`: so a password may contain `@` and `/` as it is, as long as there is one way to read the address.
    pub(super) fn split(text: &'a str) -> Result<Self, String> {
        let at = text
            .find(['@', '/'])
            .filter(|at| text[*at..].starts_with('@'));
        let start = at.map_or(0, |at| at + 1);
        let end = text[start..].find('?').map_or(text.len(), |at| start + at);
        let main = &text[start..end];
        let (hosts, dbname) = main.split_once('/').unwrap_or((main, ""));
        let further = match (hosts.rfind('@'), dbname.contains('@')) {
            (None, false) => None,
            (Some(at), false) => Some(at),
            (None, true) if at.is_none() && hosts.split(',').any(|part| host(part).is_none()) => {
                main.rfind('@')
            }
            _ => return Err(AMBIGUOUS.to_owned()),
        };
        let at = further.map(|further| start + further).or(at);
        let start = at.map_or(0, |at| at + 1);
        let main = &text[start..end];
        let (hosts, dbname) = main.split_once('/').unwrap_or((main, ""));
        let credentials = at.map(|at| &text[..at]);
        let (user, password) = match credentials.map(|both| both.split_once(':').ok_or(both)) {
            None => (None, None),
            Some(Ok((user, password))) => (Some(user), Some(password)),
            Some(Err(user)) => (Some(user), None),
        };
        Ok(Self {
            user,
            password,
            hosts,
            dbname,
            query: text.get(end + 1..).unwrap_or_default(),
        })
    }

    /// The parameters with their values, decoded.
    pub(super) fn parameters(&self) -> Result<Vec<(String, String)>, String> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').ok_or_else(|| {
                    self.without_a_secret("a parameter has no value: write name=value".to_owned())
                })?;
                let name = decode_text(name, "a parameter's name")?;
                let what = self.without_a_secret(format!("the parameter `{name}`"));
                let value = decode_text(value, &what)?;
                Ok((name, value))
            })
            .collect()
    }

    /// The text, unless what looks like a parameter may be a part of a password.
    pub(super) fn without_a_secret(&self, text: String) -> String {
        if self.query.contains('@') {
            AMBIGUOUS.to_owned()
        } else {
            text
        }
    }
}

/// A host's name and its port, if it has one; `None` when it cannot be a host.
pub(super) fn host(text: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (name, after) = bracketed.split_once(']')?;
            match after {
                "" => (name, None),
                after => (name, Some(after.strip_prefix(':')?)),
            }
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let is_strange = |c: char| c.is_whitespace() || "@#?/\\".contains(c);
    if name.contains(is_strange) {
        return None;
    }
    match port {
        None | Some("") => Some((name, None)),
        Some(port) => Some((name, Some(self::port(port)?))),
    }
}

/// A port's number.
pub(super) fn port(text: &str) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number > 0 && !text.starts_with('+')).then_some(number)
}

/// Decodes `%XX`. A `+` is a `+`.
pub(super) fn decode(text: &str, what: &str) -> Result<Vec<u8>, String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let pair = digit().zip(digit());
        let (high, low) = pair
            .ok_or_else(|| format!("a `%` is not followed by two digits in {what}: write %25"))?;
        match u8::try_from(high * 16 + low) {
            Ok(0) | Err(_) => return Err(format!("%00 is not allowed in {what}")),
            Ok(byte) => decoded.push(byte),
        }
    }
    Ok(decoded)
}

/// The same, where it has to be text.
pub(super) fn decode_text(text: &str, what: &str) -> Result<String, String> {
    String::from_utf8(decode(text, what)?).map_err(|_| format!("{what} is not UTF-8"))
}
