//! Quantities as the integers scheduling counts in. Fractions round away from zero, as upstream's `Value` and
//! `MilliValue` do, so a pod is never promised less than it asked for.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Whole units (bytes, devices).
pub fn value(quantity: &Quantity) -> i64 {
    read(quantity).value()
}

/// Thousandths (milli-CPU).
pub fn milli_value(quantity: &Quantity) -> i64 {
    read(quantity).milli_value()
}

/// Text that is no quantity counts as zero: the API server validated it, and there is nobody to tell here.
fn read(quantity: &Quantity) -> api::quantity::Quantity {
    quantity.0.parse().unwrap_or_default()
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
