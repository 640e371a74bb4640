//! How far two next-token distributions are apart.

/// KL(p ‖ q) in nats of the softmax distributions of the logits `p` and `q` (`[vocab]` each), sums in
/// f64. NaN where the two have not as many entries.
pub fn divergence(p: &[f32], q: &[f32]) -> f32 {
    if p.len() != q.len() || p.is_empty() {
        return f32::NAN;
    }
    let largest = |x: &[f32]| f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (largest_p, largest_q) = (largest(p), largest(q));
    let (mut total_p, mut total_q, mut sum) = (0.0, 0.0, 0.0);
    for (&a, &b) in p.iter().zip(q) {
        let (a, b) = (f64::from(a) - largest_p, f64::from(b) - largest_q);
        let weight = a.exp();
        total_p += weight;
        total_q += b.exp();
        sum += weight * (a - b);
    }
    // Σ p (log p − log q), both logarithms without their totals, which are added once.
    (sum / total_p - (total_p.ln() - total_q.ln())).max(0.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_coins() {
        let logits = |p: f64| [p.ln() as f32 + 3.0, (1.0 - p).ln() as f32 + 3.0];
        let want = 0.5 * (0.5_f64 / 0.9).ln() + 0.5 * (0.5_f64 / 0.1).ln();
        let found = divergence(&logits(0.5), &logits(0.9));
        assert!((f64::from(found) - want).abs() < 1e-6, "{found} {want}");
        assert_ne!(found, divergence(&logits(0.9), &logits(0.5)));
    }

    #[test]
    fn a_distribution_is_no_distance_from_itself() {
        let logits: Vec<f32> = (0..500).map(|i| (i % 17) as f32 - 20.0).collect();
        let shifted: Vec<f32> = logits.iter().map(|x| x + 64.0).collect();
        assert!(divergence(&logits, &shifted) < 1e-9);
        assert!(divergence(&logits, &logits[1..]).is_nan());
    }
}
