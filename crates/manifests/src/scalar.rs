//! Plain scalars of YAML as kubectl reads them: by the rules of YAML 1.1, in which `yes` is a boolean and
//! `012` is ten.

use serde_json::Value;

/// A number that JSON can't represent: infinity or NaN.
#[derive(Debug, PartialEq)]
pub(super) struct NotJson;

/// The value of a plain scalar.
pub(super) fn resolve(text: &str) -> Result<Value, NotJson> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(Value::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" => return Err(NotJson),
        _ => {}
    }
    if let ".inf" | ".Inf" | ".INF" = text.trim_start_matches(['+', '-']) {
        return Err(NotJson);
    }
    Ok(number(text).unwrap_or_else(|| Value::String(text.to_owned())))
}

fn number(text: &str) -> Option<Value> {
    let first = text.bytes().next()?;
    let plain = match first {
        b'.' => text.to_owned(),
        b'+' | b'-' | b'0'..=b'9' => text.replace('_', ""),
        _ => return None,
    };
    integer(&plain).or_else(|| float(&plain))
}

/// Decimal, `0x1F`, `0b11`, and octal as `012` and `0o12`.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` accepts a sign.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    let signed = i64::try_from(value).map(Value::from);
    signed.or_else(|_| u64::try_from(value).map(Value::from)).ok()
}

/// A whole number with a point or an exponent becomes an integer, as in JSON that Go writes.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let mantissa = unsigned.split(['e', 'E']).next()?;
    let numeric = mantissa.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && mantissa.bytes().any(|b| b.is_ascii_digit());
    let value: f64 = text.parse().ok().filter(|value: &f64| numeric && value.is_finite())?;
    if value.fract() == 0.0 && value.abs() < WHOLE {
        // Below the limit the conversion is exact.
        #[allow(clippy::cast_possible_truncation)]
        return Some(Value::from(value as i64));
    }
    Some(Value::from(value))
}

/// 2^63, beyond which a float doesn't fit an integer.
const WHOLE: f64 = 9_223_372_036_854_775_808.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The expected values are those of kubectl's YAML library.
    #[test]
    fn plain_scalars_have_the_values_that_kubectl_reads() {
        for (text, expected) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("NULL", json!(null)),
            ("nULL", json!("nULL")),
            ("yes", json!(true)),
            ("on", json!(true)),
            ("y", json!(true)),
            ("n", json!(false)),
            ("Off", json!(false)),
            ("oFF", json!("oFF")),
            ("012", json!(10)),
            ("08", json!(8)),
            ("0o7", json!(7)),
            ("1_000", json!(1000)),
            ("0_1", json!(1)),
            ("_1", json!("_1")),
            ("1e3", json!(1000)),
            ("1E5", json!(100_000)),
            ("1.5e3", json!(1500)),
            ("1e", json!("1e")),
            ("1.0", json!(1)),
            ("5.", json!(5)),
            (".5", json!(0.5)),
            ("1.5_0", json!(1.5)),
            (".", json!(".")),
            ("-", json!("-")),
            ("+", json!("+")),
            ("+5", json!(5)),
            ("--5", json!("--5")),
            ("-0x10", json!(-16)),
            ("0x1F", json!(31)),
            ("0x", json!("0x")),
            ("0b11", json!(3)),
            ("2001-01-01", json!("2001-01-01")),
            ("2001-12-14T21:59:43Z", json!("2001-12-14T21:59:43Z")),
            ("1:30", json!("1:30")),
            ("1.2.3", json!("1.2.3")),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(-9_223_372_036_854_775_808_i64)),
            ("99999999999999999999", json!(99_999_999_999_999_999_999.0)),
            ("1e400", json!("1e400")),
            ("infinity", json!("infinity")),
            ("+infinity", json!("+infinity")),
            ("=", json!("=")),
        ] {
            assert_eq!(resolve(text), Ok(expected), "{text:?}");
        }
        for text in [".inf", "-.Inf", "+.INF", ".nan"] {
            assert_eq!(resolve(text), Err(NotJson), "{text:?}");
        }
    }
}
