//! Which paths a piece of source names, as far as its tokens tell.
//!
//! Comments and strings are no tokens, so what they say does not count. Code under `#[cfg(test)]` does not count
//! either.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// What one source file says.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Every path of two names or more, with `use` lists written out and `super` resolved: `crate`, `std`, or a
    /// name in scope comes first.
    pub(crate) paths: Vec<Vec<String>>,
    /// Modules that lie in files of their own, each as its names from the root.
    pub(crate) modules: Vec<Vec<String>>,
    /// Whether a lint attribute names `unsafe_code`.
    pub(crate) unsafe_code: bool,
}

impl Names {
    /// The names in `source`, the file of the module `module` (without `crate`; empty for the root).
    pub(crate) fn of(source: &str, module: &[String]) -> Self {
        let tokens: TokenStream = source.parse().expect("a source file is made of tokens");
        let mut names = Self::default();
        names.read(tokens, module);
        names
    }

    fn read(&mut self, stream: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at += self.step(&tokens, at, module);
        }
    }

    /// Reads what begins at `at` and gives how many tokens that was.
    fn step(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        let rest = &tokens[at..];
        if let Some(attribute) = Attribute::at(rest) {
            self.unsafe_code |= attribute.names("unsafe_code");
            return match attribute.test_only() {
                false => attribute.tokens,
                true if attribute.inner => rest.len(),
                true => attribute.tokens + item_len(&rest[attribute.tokens..]),
            };
        }
        // `mod $name { … }` in a macro: one level deeper, whatever its name.
        if let [TokenTree::Ident(keyword), dollar, TokenTree::Ident(name), TokenTree::Group(body), ..] = rest
            && keyword == "mod"
            && is_punct(dollar, '$')
        {
            let inner: Vec<String> = module.iter().cloned().chain([name.to_string()]).collect();
            self.read(body.stream(), &inner);
            return 4;
        }
        if let Some((name, body)) = module_at(rest) {
            let inner: Vec<String> = module.iter().cloned().chain([name]).collect();
            match body {
                Some(body) => self.read(body.stream(), &inner),
                None => self.modules.push(inner),
            }
            return 3;
        }
        if word(rest).is_some() && is_double_colon(&rest[1..]) {
            let from_macro = at > 0 && is_punct(&tokens[at - 1], '$');
            return self.path(&[], rest, module, from_macro);
        }
        if let TokenTree::Group(group) = &rest[0] {
            self.read(group.stream(), module);
        }
        1
    }

    /// Writes out the path that begins `tokens` and continues `prefix`; gives how many tokens it has.
    fn path(
        &mut self,
        prefix: &[String],
        tokens: &[TokenTree],
        module: &[String],
        from_macro: bool,
    ) -> usize {
        let mut path = prefix.to_vec();
        let mut at = 0;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(name)) => push(&mut path, &name.to_string(), module, from_macro),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => path.push("*".to_owned()),
                Some(TokenTree::Group(list)) if list.delimiter() == Delimiter::Brace => {
                    self.list(&path, list, module, from_macro);
                    return at + 1;
                }
                // What is in a turbofish is read by itself.
                _ => break,
            }
            at += 1;
            if !is_double_colon(&tokens[at..]) {
                break;
            }
            at += 2;
        }
        self.paths.push(path);
        at
    }

    fn list(&mut self, prefix: &[String], list: &Group, module: &[String], from_macro: bool) {
        let tokens: Vec<TokenTree> = list.stream().into_iter().collect();
        for branch in tokens.split(|token| is_punct(token, ',')).filter(|branch| !branch.is_empty()) {
            self.path(prefix, branch, module, from_macro);
        }
    }
}

/// One step of a path: `super` and `self` are resolved, `crate` inside a macro is told apart.
fn push(path: &mut Vec<String>, name: &str, module: &[String], from_macro: bool) {
    let here = || std::iter::once("crate".to_owned()).chain(module.iter().cloned());
    match (name, path.is_empty()) {
        ("crate", true) if from_macro => path.push("$crate".to_owned()),
        ("self", true) => path.extend(here()),
        ("super", true) => {
            path.extend(here());
            path.pop();
        }
        ("super", false) => drop(path.pop()),
        ("self", false) => {}
        _ => path.push(name.to_owned()),
    }
}

/// `#[…]` or `#![…]`.
struct Attribute<'a> {
    content: &'a Group,
    inner: bool,
    tokens: usize,
}

impl<'a> Attribute<'a> {
    fn at(tokens: &'a [TokenTree]) -> Option<Self> {
        let inner = tokens.get(1).is_some_and(|token| is_punct(token, '!'));
        let place = if inner { 2 } else { 1 };
        match (tokens.first(), tokens.get(place)) {
            (Some(hash), Some(TokenTree::Group(content)))
                if is_punct(hash, '#') && content.delimiter() == Delimiter::Bracket =>
            {
                Some(Self { content, inner, tokens: place + 1 })
            }
            _ => None,
        }
    }

    fn names(&self, wanted: &str) -> bool {
        mentions(self.content.stream(), wanted)
    }

    /// Whether the code under it exists in tests alone: `cfg(test)`, `cfg(all(test, …))`.
    fn test_only(&self) -> bool {
        let tokens: Vec<TokenTree> = self.content.stream().into_iter().collect();
        match (word(&tokens).as_deref(), tokens.get(1)) {
            (Some("cfg"), Some(TokenTree::Group(condition))) => implies_test(condition.stream()),
            _ => false,
        }
    }
}

fn implies_test(condition: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = condition.into_iter().collect();
    tokens.split(|token| is_punct(token, ',')).any(|part| match (word(part).as_deref(), part.get(1)) {
        (Some("test"), None) => true,
        (Some("all"), Some(TokenTree::Group(parts))) => implies_test(parts.stream()),
        _ => false,
    })
}

fn mentions(stream: TokenStream, wanted: &str) -> bool {
    stream.into_iter().any(|token| match token {
        TokenTree::Ident(name) => name == wanted,
        TokenTree::Group(group) => mentions(group.stream(), wanted),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// How many tokens the item, statement or field at the beginning of `tokens` has.
fn item_len(tokens: &[TokenTree]) -> usize {
    let words: Vec<String> = tokens.iter().map_while(plain_word).collect();
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let is_item = ["fn", "mod", "impl", "struct", "enum", "trait", "union", "unsafe"].into_iter().any(has);
    let to_semicolon = !is_item && ["use", "static", "const", "type", "let", "extern"].into_iter().any(has);
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !to_semicolon,
        token => is_punct(token, ';') || (is_punct(token, ',') && !is_item && !to_semicolon),
    };
    tokens.iter().position(ends).map_or(tokens.len(), |end| end + 1)
}

/// A word, or a restriction of visibility in parentheses as an empty one.
fn plain_word(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(name) => Some(name.to_string()),
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => Some(String::new()),
        _ => None,
    }
}

/// `mod name;` or `mod name { … }` at the beginning of `tokens`.
fn module_at(tokens: &[TokenTree]) -> Option<(String, Option<&Group>)> {
    match tokens {
        [TokenTree::Ident(keyword), TokenTree::Ident(name), body, ..] if keyword == "mod" => match body {
            TokenTree::Group(body) => Some((name.to_string(), Some(body))),
            _ => Some((name.to_string(), None)),
        },
        _ => None,
    }
}

fn word(tokens: &[TokenTree]) -> Option<String> {
    match tokens.first() {
        Some(TokenTree::Ident(name)) => Some(name.to_string()),
        _ => None,
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_double_colon(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [a, b, ..] if is_punct(a, ':') && is_punct(b, ':'))
}
