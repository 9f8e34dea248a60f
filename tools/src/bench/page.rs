//! The page of the measurements.

use std::{fmt::Write as _, fs};

use tools::{runtime::Failure, worst};

use super::{
    Options, Report, Row,
    subject::{Start, Warm, ms},
};

/// A cell for a value that may be absent.
fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

/// The line that begins what is measured; everything before it is written by hand, and stays.
pub const MEASURED: &str = "<!-- Below: written by `make bench`. -->\n";

/// Returns what is measured, as a page has it.
pub fn page(report: &Report, options: &Options) -> Result<String, Failure> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism()?;
    let mut page = String::new();
    writeln!(
        page,
        "\nMedians, unless a line says otherwise; {} cold starts and {} warm requests each, fewer of large bodies. Machine: {cpu},\n\
         {cores} cores. The receivers get a recorded order, the processor ten of them as one batch.\n",
        options.starts, options.requests
    )?;
    goals(&mut page, report)?;
    functions(&mut page, &report.rows)?;
    receivers(&mut page, report)?;
    batches(&mut page, report)?;
    writeln!(page, "\nWhat a change of the recorded entities costs to write, with `extra` as one JSON text:\n")?;
    writeln!(page, "| entity | bytes | write units |\n|---|---:|---:|")?;
    for (name, bytes) in &report.units {
        writeln!(page, "| {name} | {bytes} | {} |", bytes.div_ceil(1024))?;
    }
    writeln!(page, "\nFrom the receipt of a delivery on, with a queue and a stream that hand over at once:\n")?;
    writeln!(page, "| until | p50, ms | p99, ms |\n|---|---:|---:|")?;
    let chain = &report.chain;
    for (name, times) in [("the state is written", &chain.state), ("the change event is on the bus", &chain.event)] {
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
        writeln!(page, "| {name} | {:.2} | {:.2} |", at(50), at(99))?;
    }
    writeln!(
        page,
        "\nOn AWS, the window of the queue (`BatchingWindow`, a second by default), the queue and the stream come on top."
    )?;
    let through = &report.throughput;
    writeln!(
        page,
        "\nOne receiver and one processor that work at the same time on deliveries of 2 KB, with the server on the same {cores} cores: \
         {:.0} deliveries a second, with {:.1} AWS calls each, in batches of {:.1}.",
        through.rate, through.calls, through.batch
    )?;
    writeln!(page, "\nWhat the worst batches take of the processor, each in a process of its own:\n")?;
    writeln!(page, "| batch | peak memory, MB | CPU, ms |\n|---|---:|---:|")?;
    for (name, measured) in &report.worst {
        writeln!(page, "| {name} | {:.0} | {:.0} |", measured.peak_mb, ms(measured.cpu))?;
    }
    Ok(page)
}

/// Writes the table of the goals.
fn goals(page: &mut String, report: &Report) -> Result<(), Failure> {
    let row = |name: &str| report.rows.iter().find(|row| row.name == name);
    let of_size = |name: &str| report.by_size.iter().find(|size| size.name == name);
    let receiver = report.receivers.iter().position(|name| name == "receiver").unwrap_or_default();
    let warm = |size| Some(of_size(size)?.warm.get(receiver)?.as_ref()?.cpu);
    let batch = |size: &str, messages| {
        let found =
            report.batches.iter().find(|one| one.size == size && one.messages == messages && !one.is_one_entity);
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        found.map(|found| found.warm.cpu / found.messages as f64)
    };
    let start = |name| row(name).map(|row| row.start.took[1]);
    let ratio = start("receiver").zip(start("nothing")).map(|(ours, nothing)| ours / nothing);
    let worst = report.worst.iter().find(|(name, _)| *name == worst::MANY_LINES).map(|(_, measured)| measured.peak_mb);
    let second = |cpu: f64| 2_000.0 / cpu;
    let both = warm("2 KB").zip(batch("2 KB", 10)).map(|(receiver, processor)| second(receiver + processor));
    let rate = |size, bytes: f64| batch(size, 10).map(|cpu| bytes / cpu / 1000.0);
    writeln!(page, "## Goals\n\n| | now | goal |\n|---|---:|---:|")?;
    for (what, now, digits, goal) in [
        ("receiver, exec to `/next`, as a multiple of doing nothing", ratio, 1, "3"),
        ("receiver, binary, MB", row("receiver").and_then(|row| row.sizes).map(|sizes| sizes.0), 1, "5"),
        ("receiver, CPU of a warm request of 2 KB, ms", warm("2 KB"), 3, "0.15"),
        ("receiver, CPU for each KB more, µs", slope(report, receiver), 1, "4"),
        ("processor, CPU of a message in a batch of ten of 2 KB, ms", batch("2 KB", 10), 3, "0.12"),
        ("processor, MB a second of CPU, of 20 KB", rate("20 KB", 20_480.0), 0, "64"),
        ("processor, MB a second of CPU, of 200 KB", rate("200 KB", 204_800.0), 0, "64"),
        ("processor, peak memory of ten orders of 1 MB, MB", worst, 0, "160"),
        ("both, deliveries of 2 KB a second that two cores have CPU for", both, 0, "1000"),
        (
            "both, deliveries of 2 KB a second, with the server on the same cores",
            Some(report.throughput.rate),
            0,
            "1000",
        ),
    ] {
        writeln!(page, "| {what} | {} | {goal} |", cell(now, digits))?;
    }
    writeln!(page)?;
    Ok(())
}

/// Returns the CPU time of a receiver for each KB of a body, in µs.
fn slope(report: &Report, receiver: usize) -> Option<f64> {
    let of = |name: &str| {
        let size = report.by_size.iter().find(|size| size.name == name)?;
        #[expect(clippy::cast_precision_loss, reason = "some KB")]
        let kb = size.bytes as f64 / 1024.0;
        Some((kb, size.warm.get(receiver)?.as_ref()?.cpu))
    };
    let ((small, before), (large, after)) = (of("2 KB")?, of("256 KB")?);
    Some((after - before) / (large - small) * 1000.0)
}

/// Writes the table of the functions.
fn functions(page: &mut String, rows: &[Row]) -> Result<(), Failure> {
    writeln!(page, "## Each function\n")?;
    writeln!(page, "| | {} |", rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>().join(" | "))?;
    writeln!(page, "|---|{}", "---:|".repeat(rows.len()))?;
    let nothing = rows.first().map_or(f64::NAN, |row| row.start.took[1]);
    let mut line = |what: &str, cell: &dyn Fn(&Row) -> String| {
        writeln!(page, "| {what} | {} |", rows.iter().map(cell).collect::<Vec<_>>().join(" | "))
    };
    line("binary, MB", &|row| cell(row.sizes.map(|sizes| sizes.0), 1))?;
    line("zip, MB", &|row| cell(row.sizes.map(|sizes| sizes.1), 1))?;
    line("exec to first `/next`, ms (least to most)", &|row| {
        let [least, middle, most] = row.start.took;
        format!("{middle:.1} ({least:.1} to {most:.1})")
    })?;
    line("the same, as a multiple of doing nothing", &|row| format!("{:.1}", row.start.took[1] / nothing))?;
    line("CPU until then, ms", &|row| format!("{:.1}", row.start.cpu))?;
    line("first request, ms", &|row| cell(row.start.first.map(|first| first.0), 2))?;
    line("CPU of the first request, ms", &|row| cell(row.start.first.map(|first| first.1), 2))?;
    line("warm request, ms", &|row| cell(row.warm.as_ref().map(|warm| warm.p50), 3))?;
    line("warm request, p99, ms", &|row| cell(row.warm.as_ref().map(|warm| warm.p99), 3))?;
    line("CPU of a warm request, ms", &|row| cell(row.warm.as_ref().map(|warm| warm.cpu), 3))?;
    let behind_tls =
        |row: &Row, of: &dyn Fn(&(Start, Warm)) -> Option<f64>| cell(row.behind_tls.as_ref().and_then(of), 2);
    line("behind TLS: first request, ms", &|row| behind_tls(row, &|(start, _)| Some(start.first?.0)))?;
    line("behind TLS: CPU of the first request, ms", &|row| behind_tls(row, &|(start, _)| Some(start.first?.1)))?;
    line("behind TLS: warm request, ms", &|row| behind_tls(row, &|(_, warm)| Some(warm.p50)))?;
    line("behind TLS: CPU of a warm request, ms", &|row| behind_tls(row, &|(_, warm)| Some(warm.cpu)))?;
    line("peak memory, MB", &|row| {
        format!("{:.1}", row.warm.as_ref().map_or(row.start.peak_mb, |warm| warm.peak_mb.max(row.start.peak_mb)))
    })?;
    line("AWS calls of a warm request", &|row| {
        let calls: Vec<_> =
            row.warm.iter().flat_map(|warm| &warm.calls).map(|(name, count)| format!("{count:.0} {name}")).collect();
        if calls.is_empty() { "none".into() } else { calls.join(", ") }
    })?;
    Ok(())
}

/// Writes the tables of the receivers, by the size of a body and by memory.
fn receivers(page: &mut String, report: &Report) -> Result<(), Failure> {
    let heads = report.receivers.join(" | ");
    let rule = "---:|".repeat(report.receivers.len());
    let times = |warm: &Warm| format!("{:.2} / {:.2} / {:.3}", warm.p50, warm.p99, warm.cpu);
    writeln!(
        page,
        "\n## Receivers, by the size of a body\n\nEach cell has p50, p99 and CPU of a warm request, in ms.\n"
    )?;
    writeln!(page, "| body | {heads} |\n|---|{rule}")?;
    for size in &report.by_size {
        let cells: Vec<_> = size.warm.iter().map(|warm| warm.as_ref().map_or("–".into(), times)).collect();
        writeln!(page, "| {} | {} |", size.name, cells.join(" | "))?;
    }
    let slopes: Vec<_> = (0..report.receivers.len()).map(|receiver| cell(slope(report, receiver), 1)).collect();
    writeln!(page, "| CPU for each KB between 2 and 256, µs | {} |", slopes.join(" | "))?;
    writeln!(
        page,
        "\nThe receivers in Python and for Node send a body as it is, which a queue takes up to 256 KB; this one compresses it.\n\n\
         ## Receivers, by memory\n"
    )?;
    let Some(by_memory) = &report.by_memory else {
        writeln!(page, "This machine gives a process no share of a core, so memory could not be emulated.")?;
        return Ok(());
    };
    writeln!(
        page,
        "Once it is warm, each gets the share of a core that Lambda gives for so much memory, in periods of 20 ms; a body has 2 KB.\n"
    )?;
    writeln!(page, "| memory | {heads} |\n|---|{rule}")?;
    for (memory, row) in by_memory {
        writeln!(page, "| {memory} MB | {} |", row.iter().map(times).collect::<Vec<_>>().join(" | "))?;
    }
    Ok(())
}

/// Writes the table of the processor's batches.
fn batches(page: &mut String, report: &Report) -> Result<(), Failure> {
    writeln!(page, "\n## The processor, by batch\n")?;
    writeln!(
        page,
        "| body | messages | entities | ms a message | CPU ms a message | MB a second of CPU | peak memory, MB |"
    )?;
    writeln!(page, "|---|---:|---|---:|---:|---:|---:|")?;
    for batch in &report.batches {
        #[expect(clippy::cast_precision_loss, reason = "some MB")]
        let (messages, bytes) = (batch.messages as f64, batch.bytes as f64);
        let cpu = batch.warm.cpu / messages;
        writeln!(
            page,
            "| {} | {} | {} | {:.3} | {cpu:.3} | {:.0} | {:.0} |",
            batch.size,
            batch.messages,
            if batch.is_one_entity { "one" } else { "many" },
            batch.warm.p50 / messages,
            bytes / cpu / 1000.0,
            batch.warm.peak_mb,
        )?;
    }
    Ok(())
}
