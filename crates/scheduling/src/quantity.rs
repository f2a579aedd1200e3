//! Quantities as the integers scheduling counts in. Fractions round away from zero, as upstream's `Value` and
//! `MilliValue` do, so a pod is never promised less than it asked for.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Whole units (bytes, devices).
pub fn value(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 1)
}

/// Thousandths (milli-CPU).
pub fn milli_value(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 1000)
}

/// Far above any real quantity, and low enough that sums and products of it stay inside i128.
const MAX_DIGITS: usize = 24;

/// Text that is no quantity counts as zero: the API server validated it, and there is nobody to tell here.
fn scaled(text: &str, scale: i128) -> i64 {
    parse(text, scale).unwrap_or(0)
}

fn parse(text: &str, scale: i128) -> Option<i64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() > MAX_DIGITS || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (times, over) = multiplier(suffix)?;
    let numerator = mantissa.checked_mul(times)?.checked_mul(scale)?;
    let denominator = over.checked_mul(10i128.checked_pow(fraction.len() as u32)?)?;
    let rounded = numerator.checked_add(denominator - 1)? / denominator;
    let bounded = i64::try_from(rounded).unwrap_or(i64::MAX);
    Some(if negative { -bounded } else { bounded })
}

/// The suffix as a fraction (numerator, denominator).
fn multiplier(suffix: &str) -> Option<(i128, i128)> {
    const K: i128 = 1024;
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (K, 1),
        "Mi" => (K * K, 1),
        "Gi" => (K * K * K, 1),
        "Ti" => (K * K * K * K, 1),
        "Pi" => (K * K * K * K * K, 1),
        "Ei" => (K * K * K * K * K * K, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs())?;
            if exponent >= 0 { (power, 1) } else { (1, power) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let check = |text: &str, whole: i64, milli: i64| {
            let quantity = Quantity(text.into());
            assert_eq!((value(&quantity), milli_value(&quantity)), (whole, milli), "{text}");
        };
        check("0", 0, 0);
        check("2", 2, 2000);
        check("100m", 1, 100);
        check("1.5", 2, 1500);
        check(".5", 1, 500);
        check("1e3", 1000, 1_000_000);
        check("1E", 1_000_000_000_000_000_000, i64::MAX);
        check("64Mi", 67_108_864, 67_108_864_000);
        check("1.5Gi", 1_610_612_736, 1_610_612_736_000);
        check("1n", 1, 1);
        check("-1", -1, -1000);
        check("128M", 128_000_000, 128_000_000_000);
        check("many", 0, 0);
    }
}
