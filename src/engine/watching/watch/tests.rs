//! Watchers that read, are slow, or do not come back.

use crate::engine::watching::watch::*;

const LINE: &[u8] = b"ts=1.000000 gid=1 type=item_get key=k status=found clsid=1 cfd=9 size=1\n";

fn fetchers() -> Streams {
    Streams::of(Stream::Fetchers)
}

/// Logs `count` events as worker 0 would.
fn log(watch: &Watch, stream: Stream, count: usize) {
    for _ in 0..count {
        if watch.wants(stream, 0) {
            watch.write(stream, LINE);
        }
    }
}

#[test]
fn a_watcher_gets_the_lines_of_its_streams_and_no_others() {
    let watch = Arc::new(Watch::new(1));
    log(&watch, Stream::Fetchers, 1);
    let watcher = watch.add(fetchers()).unwrap();
    log(&watch, Stream::Fetchers, 2);
    log(&watch, Stream::Mutations, 2);
    let taken = watch.take(&watcher, Waker::noop());
    assert_eq!(taken, Taken { lines: LINE.repeat(2), skipped: 0 });
    assert_eq!(watch.take(&watcher, Waker::noop()), Taken::default());
    let expected = WatchStats { written: 2, sent: 2, ..WatchStats::default() };
    assert_eq!(watch.stats(), (expected, 1));
}

#[test]
fn one_watcher_too_many_is_refused_until_another_leaves() {
    let watch = Arc::new(Watch::new(1));
    let mut watchers: Vec<_> = (0..WATCHERS_MAX).map(|_| watch.add(fetchers()).unwrap()).collect();
    assert!(watch.add(fetchers()).is_none());
    watchers.pop();
    assert!(watch.add(fetchers()).is_some(), "and that one leaves at once");
    watchers.clear();
    assert_eq!(watch.watched(), Streams::NONE);
}

#[test]
fn a_full_watcher_keeps_what_fits_and_is_told_how_much_it_missed() {
    let watch = Arc::new(Watch::new(1));
    let watcher = watch.add(fetchers()).unwrap();
    let fit = WATCHER_BYTES_MAX / LINE.len();
    log(&watch, Stream::Fetchers, fit + 1000);
    assert_eq!(watch.stats().0.skipped, 1000, "told before they are taken, too");
    assert_eq!(watch.stats().0.written, fit as u64 + 1, "what nobody has room for is not worded");
    let taken = watch.take(&watcher, Waker::noop());
    assert_eq!((taken.lines.len(), taken.skipped), (fit * LINE.len(), 1000));
    assert!(taken.lines.capacity() <= WATCHER_BYTES_MAX, "{} bytes", taken.lines.capacity());
    log(&watch, Stream::Fetchers, 1);
    assert_eq!(watch.take(&watcher, Waker::noop()), Taken { lines: LINE.to_vec(), skipped: 0 });
    assert_eq!(watch.stats().0.skipped, 1000);
}

#[test]
fn a_full_watcher_takes_nothing_from_one_that_reads() {
    let watch = Arc::new(Watch::new(2));
    let idle = watch.add(fetchers()).unwrap();
    let reader = watch.add(fetchers()).unwrap();
    let fit = WATCHER_BYTES_MAX / LINE.len();
    let mut lines = 0;
    for _ in 0..10 {
        log(&watch, Stream::Fetchers, fit / 2);
        lines += watch.take(&reader, Waker::noop()).lines.len() / LINE.len();
    }
    assert_eq!(lines, fit / 2 * 10);
    assert_eq!(watch.take(&idle, Waker::noop()).skipped, (fit / 2 * 10 - fit) as u64);
}

#[test]
fn what_was_not_worded_is_counted_even_when_it_turns_up_late() {
    let watch = Arc::new(Watch::new(1));
    let watcher = watch.add(fetchers()).unwrap();
    log(&watch, Stream::Fetchers, WATCHER_BYTES_MAX / LINE.len() + 3);
    assert_eq!(watch.take(&watcher, Waker::noop()).skipped, 3);
    // As a thread does that has found nobody to have room before all was taken.
    watch.unformatted[0].0[Stream::Fetchers as usize].add(2);
    let later = watch.add(fetchers()).unwrap();
    assert_eq!(watch.stats().0.skipped, 5);
    assert_eq!(watch.take(&watcher, Waker::noop()).skipped, 2);
    assert_eq!(watch.take(&later, Waker::noop()).skipped, 0, "it did not watch yet");
}

/// A waker that counts.
#[derive(Default)]
struct Woken(AtomicU64);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_watcher_is_woken_at_ticks_and_sooner_until_much_was_taken() {
    let watch = Arc::new(Watch::new(1));
    let watcher = watch.add(fetchers()).unwrap();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let woken = || woken.0.load(Ordering::Relaxed);
    watch.take(&watcher, &waker);
    watch.wake();
    assert_eq!(woken(), 0, "nothing waits");
    log(&watch, Stream::Fetchers, 1);
    assert_eq!(woken(), 0, "one line can wait");
    watch.wake();
    assert_eq!(woken(), 1);
    watch.take(&watcher, &waker);
    let enough = WAKE_BYTES.div_ceil(LINE.len());
    let times = EARLY_BYTES_MAX.div_ceil(enough * LINE.len());
    for time in 1..=times + 5 {
        log(&watch, Stream::Fetchers, enough);
        assert_eq!(woken(), 1 + time.min(times) as u64);
        watch.take(&watcher, &waker);
    }
    log(&watch, Stream::Fetchers, enough);
    watch.wake();
    assert_eq!(woken(), 2 + times as u64, "the tick comes for all");
}

#[test]
fn what_is_lost_is_told_to_those_it_concerns() {
    let watch = Arc::new(Watch::new(1));
    let watcher = watch.add(Streams::of(Stream::Evictions)).unwrap();
    let other = watch.add(fetchers()).unwrap();
    watch.lose(Stream::Evictions, 7);
    assert_eq!(watch.take(&watcher, Waker::noop()).skipped, 7);
    assert_eq!(watch.take(&other, Waker::noop()).skipped, 0);
    assert_eq!(watch.stats().0.dropped, 7);
}

#[test]
fn only_quit_on_a_line_of_its_own_is_heeded() {
    let heeds = |pieces: &[&[u8]]| {
        let mut typed = Typed::default();
        pieces.iter().any(|piece| typed.says_quit(piece))
    };
    assert!(heeds(&[b"quit\r\n"]));
    assert!(heeds(&[b"quit\n"]));
    assert!(heeds(&[b"get a\r\nqui", b"t\r", b"\n"]));
    assert!(heeds(&[b"", b"quit\n"]));
    for other in
        [&b"quit"[..], b" quit\r\n", b"quit now\r\n", b"aquit\r\n", b"quitquit\n", b"QUIT\n", b"qui\n"]
    {
        assert!(!heeds(&[other]), "{}", other.escape_ascii());
    }
}
