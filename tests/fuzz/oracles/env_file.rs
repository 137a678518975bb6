//! `.env`: names are names, a bad line is one that exists, and what is written quoted is read as it was.

use entra_auth_mcp::config::env_file::{Variable, parse};

pub fn holds(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match parse(&text) {
        Ok(variables) => {
            for Variable { name, value, line } in variables {
                assert!(is_name(&name), "{name:?}");
                assert!((1..=text.lines().count()).contains(&line), "{line}");
                reads_back(&name, &value);
            }
        }
        Err(bad) => {
            let lines = text.lines().count();
            assert!(
                !bad.is_empty() && bad.iter().all(|line| (1..=lines).contains(&line.number)),
                "{bad:?}"
            );
        }
    }
    reads_back("VALUE", &text);
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn reads_back(name: &str, value: &str) {
    let expected = |line| {
        Ok(vec![Variable {
            name: name.to_owned(),
            value: value.to_owned(),
            line,
        }])
    };
    let escaped = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .replace('\r', "\\r");
    assert_eq!(
        parse(&format!(
            "# comment\r\n export {name} = \"{escaped}\" # comment\n"
        )),
        expected(2)
    );
    if !value.contains(['\'', '\n', '\r']) {
        assert_eq!(parse(&format!("{name}='{value}'")), expected(1));
    }
}
