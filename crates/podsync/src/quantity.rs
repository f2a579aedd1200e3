//! Kubernetes quantities as integers: bytes and counts rounded up, CPU in thousandths.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Text that is no quantity counts as zero: the API server validated it.
fn read(quantity: &Quantity) -> api::quantity::Quantity {
    quantity.0.parse().unwrap_or_default()
}

/// Whole units, rounded up, as Go's `Quantity.Value()`.
pub fn value(quantity: &Quantity) -> i64 {
    read(quantity).value()
}

/// Thousandths, rounded up, as Go's `Quantity.MilliValue()`.
pub fn milli(quantity: &Quantity) -> i64 {
    read(quantity).milli_value()
}

/// `quantity / divisor`, rounded up, as the downward API divides: in thousandths when the divisor is smaller than one.
pub fn divide(quantity: &Quantity, divisor: &Quantity) -> i64 {
    let (quantity, divisor) = (read(quantity), read(divisor));
    let (over, by) = if divisor.milli_value() % 1000 == 0 {
        (quantity.value(), divisor.value())
    } else {
        (quantity.milli_value(), divisor.milli_value())
    };
    if by <= 0 { over } else { over / by + i64::from(over % by > 0) }
}

/// Thousandths of a CPU in canonical form.
pub fn from_milli(milli: i64) -> Quantity {
    Quantity(if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") })
}

/// Bytes as nodes report them: in Ki when that is exact.
pub fn from_bytes(bytes: i64) -> Quantity {
    Quantity(if bytes != 0 && bytes % 1024 == 0 { format!("{}Ki", bytes / 1024) } else { bytes.to_string() })
}

/// One resource of a list.
pub fn get<'a>(list: Option<&'a BTreeMap<String, Quantity>>, name: &str) -> Option<&'a Quantity> {
    list?.get(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let check = |text: &str, whole: i64, thousandths: i64| {
            let quantity = Quantity(text.into());
            assert_eq!((value(&quantity), milli(&quantity)), (whole, thousandths), "{text}");
        };
        check("1", 1, 1000);
        check("100m", 1, 100);
        check("1.5", 2, 1500);
        check("64Mi", 67_108_864, 67_108_864_000);
        check("1e3", 1000, 1_000_000);
        check("0.1", 1, 100);
        check("1500u", 1, 2);
        check("-1", -1, -1000);
        check("rubbish", 0, 0);
    }

    #[test]
    fn canonical_forms() {
        assert_eq!(from_milli(2000).0, "2");
        assert_eq!(from_milli(1950).0, "1950m");
        assert_eq!(from_bytes(2048).0, "2Ki");
        assert_eq!(from_bytes(1000).0, "1000");
        assert_eq!(divide(&Quantity("64Mi".into()), &Quantity("1Mi".into())), 64);
        assert_eq!(divide(&Quantity("1500m".into()), &Quantity("1".into())), 2);
    }
}
