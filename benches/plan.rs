//! Decisions of the plan alone, without parsing the object and computing the patch.

mod fixtures;

use std::hint::black_box;

use adieu::plan::{Kind, Workload, admit};
use criterion::{Criterion, Throughput};

fn main() -> anyhow::Result<()> {
    let cases = fixtures::cases()?;
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(1));
    for case in &cases {
        let new = Workload::of(Kind::Deployment, &case.new);
        let old = case.old.as_ref().map(|old| Workload::of(Kind::Deployment, old));
        let namespace_context = case.caches.namespace_context(fixtures::NAMESPACE);
        group.bench_function(case.name, |bencher| {
            bencher.iter(|| admit(black_box(&new), black_box(old.as_ref()), black_box(&namespace_context)));
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
