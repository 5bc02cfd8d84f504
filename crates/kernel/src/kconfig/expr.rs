//! Expressions of the Kconfig language, evaluated on a final configuration with three-valued logic.
//!
//! The value of a compiler check (`$(cc-option,...)`) is unknown, and an unknown value is never reported as a reason.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use crate::dotconfig::DotConfig;
use crate::option::{KValue, number};

/// n < m < y.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tri {
    /// n
    No,
    /// m
    Module,
    /// y
    Yes,
}

impl Tri {
    /// The tristate value of an option. Numbers and strings have no tristate value and are treated as n.
    #[must_use]
    pub fn of(value: &KValue) -> Self {
        match value {
            KValue::Yes => Self::Yes,
            KValue::Module => Self::Module,
            _ => Self::No,
        }
    }
}

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// An option, or `y`, `m`, `n`.
    Symbol(String),
    /// A quoted constant.
    Text(String),
    /// A check of the tool chain: `$(...)`.
    Macro(String),
    /// `!a`
    Not(Box<Expr>),
    /// `a && b`
    And(Box<Expr>, Box<Expr>),
    /// `a || b`
    Or(Box<Expr>, Box<Expr>),
    /// `a = b`, `!=`, `<`, `<=`, `>`, `>=`
    Compare(Box<Expr>, &'static str, Box<Expr>),
}

/// The nesting limit of brackets.
const DEPTH: usize = 100;
/// The maximum number of words and operators in an expression, which limits the depth of its tree. A kernel has up to
/// 100.
const TOKENS: usize = 1000;

impl Expr {
    /// Parses an expression; `None` if it is not valid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, position: 0, depth: 0 };
        let expr = parser.or()?;
        (parser.position == tokens.len()).then_some(expr)
    }

    /// Its value; `None` if it depends on the tool chain.
    #[must_use]
    pub fn eval(&self, config: &DotConfig) -> Option<Tri> {
        Some(match self {
            Self::Symbol(name) => match name.as_str() {
                "y" => Tri::Yes,
                "m" => Tri::Module,
                "n" => Tri::No,
                _ => Tri::of(config.get(name)),
            },
            Self::Text(text) => Tri::of(&KValue::parse(text)),
            Self::Macro(_) => return None,
            Self::Not(inner) => match inner.eval(config)? {
                Tri::Yes => Tri::No,
                Tri::Module => Tri::Module,
                Tri::No => Tri::Yes,
            },
            Self::And(a, b) => match (a.eval(config), b.eval(config)) {
                (Some(Tri::No), _) | (_, Some(Tri::No)) => Tri::No,
                (a, b) => a?.min(b?),
            },
            Self::Or(a, b) => match (a.eval(config), b.eval(config)) {
                (Some(Tri::Yes), _) | (_, Some(Tri::Yes)) => Tri::Yes,
                (a, b) => a?.max(b?),
            },
            Self::Compare(a, op, b) => {
                let (a, b) = (a.text(config)?, b.text(config)?);
                let order = match (number(&a), number(&b)) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    _ => a.cmp(&b),
                };
                let holds = match *op {
                    "=" => order == Ordering::Equal,
                    "!=" => order != Ordering::Equal,
                    "<" => order == Ordering::Less,
                    "<=" => order != Ordering::Greater,
                    ">" => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                };
                if holds { Tri::Yes } else { Tri::No }
            }
        })
    }

    /// An operand of a comparison as text.
    fn text(&self, config: &DotConfig) -> Option<String> {
        match self {
            Self::Symbol(name) if !config.mentions(name) => {
                // Numbers, y, m and n are constants; an option that is not set is n.
                let constant = number(name).is_some() || matches!(name.as_str(), "y" | "m" | "n");
                Some(if constant { name.clone() } else { "n".into() })
            }
            Self::Symbol(name) => Some(match config.get(name) {
                KValue::Text(text) => text.clone(),
                value => value.to_string(),
            }),
            Self::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// The parts that keep the value below `wanted`, each in a few words. Empty if the value is not below it.
    #[must_use]
    pub fn unmet(&self, config: &DotConfig, wanted: Tri) -> Vec<String> {
        if self.eval(config).is_none_or(|value| value >= wanted) {
            return Vec::new();
        }
        match self {
            Self::And(a, b) => {
                let mut parts = a.unmet(config, wanted);
                for part in b.unmet(config, wanted) {
                    if !parts.contains(&part) {
                        parts.push(part);
                    }
                }
                parts
            }
            Self::Or(..) => {
                let mut symbols = BTreeSet::new();
                let plain = self.alternatives(&mut symbols);
                if plain && symbols.len() > 1 {
                    vec![format!("one of {}", symbols.into_iter().collect::<Vec<_>>().join(", "))]
                } else {
                    vec![format!("({self})")]
                }
            }
            Self::Not(inner) => match &**inner {
                Self::Symbol(name) => vec![format!("{name}=n (it is {})", config.get(name))],
                inner => vec![format!("!({inner})")],
            },
            Self::Symbol(name) => {
                let wanted = if wanted == Tri::Yes && Tri::of(config.get(name)) == Tri::Module {
                    "=y (it is m)"
                } else {
                    ""
                };
                vec![format!("{name}{wanted}")]
            }
            Self::Compare(a, op, b) => vec![format!("{a}{op}{b}")],
            Self::Text(_) | Self::Macro(_) => vec![self.to_string()],
        }
    }

    /// Collects the options of `a || b || c`. Returns false if it contains anything else.
    fn alternatives(&self, into: &mut BTreeSet<String>) -> bool {
        match self {
            Self::Symbol(name) => {
                if name != "n" {
                    into.insert(name.clone());
                }
                true
            }
            Self::Or(a, b) => a.alternatives(into) && b.alternatives(into),
            _ => false,
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracket = |f: &mut fmt::Formatter<'_>, inner: &Self, needed: bool| {
            if needed { write!(f, "({inner})") } else { write!(f, "{inner}") }
        };
        match self {
            Self::Symbol(name) => f.write_str(name),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Macro(text) => write!(f, "$({text})"),
            Self::Not(inner) => {
                f.write_str("!")?;
                bracket(f, inner, !matches!(**inner, Self::Symbol(_) | Self::Text(_) | Self::Macro(_)))
            }
            Self::And(a, b) => {
                bracket(f, a, matches!(**a, Self::Or(..)))?;
                f.write_str(" && ")?;
                bracket(f, b, matches!(**b, Self::Or(..)))
            }
            Self::Or(a, b) => write!(f, "{a} || {b}"),
            Self::Compare(a, op, b) => write!(f, "{a}{op}{b}"),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Macro(String),
    Op(&'static str),
}

const OPS: [&str; 11] = ["&&", "||", "!=", "<=", ">=", "!", "=", "<", ">", "(", ")"];

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if tokens.len() >= TOKENS {
            return None;
        }
        if first == '#' {
            break;
        }
        if let Some(inner) = rest.strip_prefix("$(") {
            let mut depth = 1;
            let end = inner.find(|c| {
                depth += match c {
                    '(' => 1,
                    ')' => -1,
                    _ => 0,
                };
                depth == 0
            })?;
            tokens.push(Token::Macro(inner[..end].into()));
            rest = &inner[end + 1..];
        } else if first == '"' || first == '\'' {
            let end = rest[1..].find(first)?;
            tokens.push(Token::Quoted(rest[1..=end].into()));
            rest = &rest[end + 2..];
        } else if let Some(op) = OPS.into_iter().find(|op| rest.starts_with(op)) {
            tokens.push(Token::Op(op));
            rest = &rest[op.len()..];
        } else {
            let word = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            tokens.push(Token::Word(rest[..end].into()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Some(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    position: usize,
    depth: usize,
}

impl Parser<'_> {
    fn eat(&mut self, op: &'static str) -> bool {
        let found = self.tokens.get(self.position) == Some(&Token::Op(op));
        self.position += usize::from(found);
        found
    }

    fn or(&mut self) -> Option<Expr> {
        let mut left = self.and()?;
        while self.eat("||") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Some(left)
    }

    fn and(&mut self) -> Option<Expr> {
        let mut left = self.compare()?;
        while self.eat("&&") {
            left = Expr::And(Box::new(left), Box::new(self.compare()?));
        }
        Some(left)
    }

    fn compare(&mut self) -> Option<Expr> {
        let left = self.unary()?;
        for op in ["=", "!=", "<", "<=", ">", ">="] {
            if self.eat(op) {
                return Some(Expr::Compare(Box::new(left), op, Box::new(self.unary()?)));
            }
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Expr> {
        self.depth += 1;
        let result = self.unary_within();
        self.depth -= 1;
        result
    }

    fn unary_within(&mut self) -> Option<Expr> {
        if self.depth > DEPTH {
            return None;
        }
        if self.eat("!") {
            return Some(Expr::Not(Box::new(self.unary()?)));
        }
        if self.eat("(") {
            let inner = self.or()?;
            return self.eat(")").then_some(inner);
        }
        let token = self.tokens.get(self.position)?;
        self.position += 1;
        Some(match token {
            Token::Word(word) => Expr::Symbol(word.clone()),
            Token::Quoted(text) => Expr::Text(text.clone()),
            Token::Macro(text) => Expr::Macro(text.clone()),
            Token::Op(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> DotConfig {
        DotConfig::parse("CONFIG_Y=y\nCONFIG_M=m\n# CONFIG_N is not set\nCONFIG_V=120200\nCONFIG_S=\"gcc\"\n")
    }

    fn eval(text: &str) -> Option<Tri> {
        Expr::parse(text).unwrap().eval(&config())
    }

    #[test]
    fn three_values() {
        assert_eq!(eval("Y && M"), Some(Tri::Module));
        assert_eq!(eval("!M || N"), Some(Tri::Module));
        assert_eq!(eval("Y && !N && (N || Y)"), Some(Tri::Yes));
        assert_eq!(eval("M = m && Y!=n"), Some(Tri::Yes));
        assert_eq!(eval("V >= 110000 && V<0x20000"), Some(Tri::Yes));
        assert_eq!(eval("S = \"gcc\""), Some(Tri::Yes));
        assert_eq!(eval("N = n && ABSENT = n"), Some(Tri::Yes));
        assert_eq!(eval("$(cc-option,-fx) && Y"), None);
        assert_eq!(eval("$(cc-option,-f(x)) && N"), Some(Tri::No));
        assert_eq!(eval("$(success,true) || Y"), Some(Tri::Yes));
    }

    #[test]
    fn invalid_expressions() {
        for text in ["", "&&", "A &&", "(A", "A B", "A)", "\"x", "$(x", "A = ", "!"] {
            assert_eq!(Expr::parse(text), None, "{text:?}");
        }
        assert_eq!(Expr::parse(&"(".repeat(100_000)), None);
        assert_eq!(Expr::parse(&"!".repeat(100_000)), None);
    }

    #[test]
    fn reasons_contain_the_missing_options() {
        let unmet = |text: &str| Expr::parse(text).unwrap().unmet(&config(), Tri::Yes).join("; ");
        assert_eq!(unmet("Y && N && !Y && N"), "N; Y=n (it is y)");
        assert_eq!(unmet("N || ABSENT || n"), "one of ABSENT, N");
        assert_eq!(unmet("(N && Y) || ABSENT"), "(N && Y || ABSENT)");
        assert_eq!(unmet("M && Y"), "M=y (it is m)");
        assert_eq!(unmet("V > 130000"), "V>130000");
        assert_eq!(unmet("$(cc-option,-fx)"), "");
        assert_eq!(unmet("Y || N"), "");
    }

    fn any_expr() -> impl Strategy<Value = Expr> {
        let leaf = prop::sample::select(vec!["Y", "M", "N", "y", "m", "n", "ABSENT"])
            .prop_map(|s| Expr::Symbol(s.into()));
        leaf.prop_recursive(4, 24, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| Expr::And(Box::new(a), Box::new(b))),
                (inner.clone(), inner).prop_map(|(a, b)| Expr::Or(Box::new(a), Box::new(b))),
            ]
        })
    }

    proptest! {
        #[test]
        fn printing_keeps_the_meaning(expr in any_expr()) {
            let again = Expr::parse(&expr.to_string()).unwrap();
            prop_assert_eq!(again.eval(&config()), expr.eval(&config()));
            prop_assert_eq!(expr.unmet(&config(), Tri::Yes).is_empty(), expr.eval(&config()) == Some(Tri::Yes));
        }

        #[test]
        fn never_panics(text in "[A-Z!&|=<>()\"$ éy]{0,30}") {
            if let Some(expr) = Expr::parse(&text) {
                let _ = expr.eval(&config());
                let _ = expr.unmet(&config(), Tri::Yes);
            }
        }
    }
}
