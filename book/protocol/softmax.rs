// A softmax in Rust, in float32, under the audit: rustc -O softmax.rs && ./softmax
use std::io::{self, BufRead, Write};

fn softmax(z: &[f32]) -> Vec<String> {
    let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let terms: Vec<f32> = z.iter().map(|z| (z - largest).exp()).collect();
    let sum: f32 = terms.iter().sum(); // a NaN stays in it
    let shown = |p: f32| if p.is_nan() { "\"nan\"".to_string() } else { format!("{p:e}") };
    terms.iter().map(|term| shown(term / sum)).collect()
}

fn row(text: &str) -> String {
    // parse reads nan, inf and -inf too
    let z: Vec<f32> = text.split(',').map(|z| z.trim_matches('"').parse().unwrap()).collect();
    softmax(&z).join(",")
}

fn main() {
    for line in io::stdin().lock().lines().map(Result::unwrap) {
        match line.split("\"logits\": [[").nth(1).and_then(|rest| rest.split("]]").next()) {
            Some(rows) => {
                let rows: Vec<String> = rows.split("],[").map(row).collect();
                println!("{{\"result\": [[{}]]}}", rows.join("],["));
            }
            None => println!(r#"{{"name": "softmax.rs", "functions": ["softmax"], "dtypes": ["float32"]}}"#),
        }
        io::stdout().flush().unwrap();
    }
}
