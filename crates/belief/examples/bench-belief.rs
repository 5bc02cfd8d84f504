//! Measures how often the answers are right, on simulated histories with known answers:
//! `cargo run --release -p belief --example bench-belief [-- SEED...]`.
//!
//! Prints `name value unit` lines. With several seeds, prints them for each seed.

#![expect(clippy::print_stdout, reason = "a program for developers")]

#[path = "bench-belief/bisect.rs"]
mod bisect;
#[path = "bench-belief/fixed.rs"]
mod fixed;
#[path = "bench-belief/random.rs"]
mod random;

use std::error::Error;

/// The seed of the published figures. Others give the same figures within the noise of the sample.
const SEED: u64 = 22;

/// A name, a value and its unit.
type Figure = (String, f64, &'static str);

fn main() -> Result<(), Box<dyn Error>> {
    let mut seeds = std::env::args().skip(1).map(|seed| seed.parse()).collect::<Result<Vec<u64>, _>>()?;
    let several = seeds.len() > 1;
    if seeds.is_empty() {
        seeds.push(SEED);
    }
    for seed in seeds {
        if several {
            println!("seed {seed}:");
        }
        let mut figures = bisect::figures(seed)?;
        figures.extend(fixed::figures(seed)?);
        for (name, value, unit) in figures {
            println!("{name} {value:.2} {unit}");
        }
    }
    Ok(())
}
