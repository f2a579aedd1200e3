//! The ratios as bars, on a logarithmic scale: twice as fast is as far from even as half.

use std::fmt::Write;

use crate::report::Row;

const WIDTH: f64 = 860.0;
const LABEL_WIDTH: f64 = 330.0;
const VALUE_WIDTH: f64 = 60.0;
const BAR_HEIGHT: f64 = 16.0;
const STEP: f64 = 22.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 34.0;
const FASTER: &str = "#2a7f62";
const SLOWER: &str = "#b5483a";
/// The scale always shows at least a quarter to four times.
const LEAST_OCTAVES: f64 = 2.0;

/// Where a ratio lies on the scale that covers all rows.
struct Scale {
    octaves: f64,
}

impl Scale {
    fn of(rows: &[Row]) -> Scale {
        let furthest = rows.iter().map(|row| row.ratio().log2().abs()).fold(LEAST_OCTAVES, f64::max);
        Scale { octaves: furthest.ceil() }
    }

    fn x(&self, ratio: f64) -> f64 {
        let part = (ratio.log2() + self.octaves) / (2.0 * self.octaves);
        LABEL_WIDTH + part * (WIDTH - LABEL_WIDTH - VALUE_WIDTH)
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        let octaves = self.octaves as i32;
        (-octaves..=octaves).map(|n| f64::from(n).exp2())
    }
}

pub fn svg(rows: &[Row]) -> String {
    let scale = Scale::of(rows);
    let bottom = TOP + rows.len() as f64 * STEP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">kube-store against etcd: how many times better</text>\n",
        height = bottom + BOTTOM,
    );
    for mark in scale.marks() {
        axis(&mut svg, scale.x(mark), mark, bottom);
    }
    for (n, row) in rows.iter().enumerate() {
        bar(&mut svg, &scale, row, TOP + n as f64 * STEP);
    }
    svg.push_str("</svg>\n");
    svg
}

fn axis(svg: &mut String, x: f64, mark: f64, bottom: f64) {
    let (stroke, top) = (if mark == 1.0 { "#333" } else { "#ddd" }, TOP - 8.0);
    let name = if mark < 1.0 { format!("1/{}", 1.0 / mark) } else { mark.to_string() };
    let y = bottom + 18.0;
    let line = format!("<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{stroke}\"/>");
    let text = format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#555\">{name}</text>");
    let _ = writeln!(svg, "{line}\n{text}");
}

fn bar(svg: &mut String, scale: &Scale, row: &Row, y: f64) {
    let ratio = row.ratio();
    let (even, end) = (scale.x(1.0), scale.x(ratio));
    let (x, width) = (even.min(end), (end - even).abs().max(1.0));
    let fill = if ratio >= 1.0 { FASTER } else { SLOWER };
    let base = y + 12.0;
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let label = format!(
        "{}, {} client{}, {} member{}",
        row.kind.name,
        row.clients,
        plural(row.clients),
        row.members,
        plural(row.members)
    );
    let value = even.max(end) + 6.0;
    let right = LABEL_WIDTH - 10.0;
    let texts = format!(
        "<text x=\"{right}\" y=\"{base}\" text-anchor=\"end\">{label}</text>\
         <text x=\"{value:.1}\" y=\"{base}\" font-weight=\"bold\">{ratio:.2}</text>"
    );
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" fill=\"{fill}\"/>{texts}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::row;

    #[test]
    fn even_is_in_the_middle_and_the_scale_holds_every_row() {
        let scale = Scale::of(&[row(1.0, 1.0), row(9.0, 1.0)]);
        assert_eq!(scale.octaves, 4.0);
        let middle = LABEL_WIDTH + (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / 2.0;
        assert_eq!(scale.x(1.0), middle);
        assert!(scale.x(9.0) < WIDTH - VALUE_WIDTH && scale.x(2.0) - middle == middle - scale.x(0.5));
    }

    #[test]
    fn every_row_is_a_bar_of_its_colour() {
        let svg = svg(&[row(3.0, 1.0), row(1.0, 3.0), row(2.0, 1.0)]);
        assert_eq!((svg.matches(FASTER).count(), svg.matches(SLOWER).count()), (2, 1));
        assert!(svg.contains("put, 100 clients, 1 member<") && svg.contains(">3.00<") && svg.contains(">0.33<"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
}
