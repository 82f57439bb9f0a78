"""What a screen asks for: what is known, the jobs that find out what is not, and where both are kept.

`workbench` is the door: `known(kind, *arguments)` and `ask(kind, *arguments)`. `studies` is the table of all kinds,
`works` their work, `requests` their requests as plain data, `knowledge` what is known, `jobs` and `scheduler` who waits
for what, `store` the disk.

Locks. A thread that holds one takes only later ones of this list, so that none waits in a circle:

1. the workbench's (`Knowledge._lock`): for look-ups, and while a job is submitted.
2. the scheduler's (`Scheduler._lock`): its queue and whose turn it is.
3. a job's (`Job._lock`): who wants it; one job's at a time.
4. a board's (`Board._lock`): rows are added or read; nothing is asked meanwhile.
5. the visitors' (`pages.components.visitors`), taken by `present` under 2 and 3.
6. a cache's (`Recent._lock`): one call each; nothing is called under it.

The store's (`Store._writing` before `Store._lock` before `Database._lock`), a subject's (`Subject._lock`) and the
machine's (`paretoscope.base.lock`) are taken with none of 1 to 6 held: nothing is measured, compressed, read from disk
or waited for under those. A job that gives its turn away lets go of the machine first.

Caches. Each has a bound (`tests/service/test_bounds.py`, `test_caches.py`), and drops what was not used for the longest
time; it is read from the store or made anew:

| cache | holds at most | lock |
| --- | --- | --- |
| `Knowledge._subjects` | 16 networks (`knowledge.NETWORKS`) with their data | 1 |
| `Knowledge._boards`, `_earlier` | of those: 20,000 records each (`RECORDS`), and digests of other revisions | 1 |
| `Lookups._settings` | the timings of boards under 64 settings (`lookups.SETTINGS`) | its own |
| `Knowledge._evaluations` | 64 MiB of predictions (`EVALUATION_BYTES`) | 1 |
| `Knowledge._studies` | 512 results of studies (`STUDIES`) | 1 |
| `Knowledge._work` | 256 lists of what layers compute (`WORKS`) | 1 |
| `Knowledge._conversions` | 256 MiB of files (`KEPT_BYTES`) | 1 |
| `Latencies._known`, `_absent`, `_tries` | 4,096 timings each (`latencies.TIMINGS`) | 1 |
| `Latencies._references`, `_problems` | 1,024 settings each (`latencies.SETTINGS`) | 1 |
| `Workbench._jobs` | jobs that have not ended, as 2, and those ended since the last was asked for | 1 |
| `Scheduler._queue`, `_begun` | jobs that have not ended: `Limits.queue`, `trainings`, `jobs` | 2 |
| `Scheduler._turns` | the last turns of 10,000 places (`scheduler.PLACES`) | 5 |
| `Store._waiting` | 256 MiB of results to be written (`store.WAITING_BYTES`); what is dropped is told | its own |
| `Store._unreadable` | the damaged rows of the file that were asked for | its own |
| `Subject._variants`, `_forms` | 4 simplified networks each (`subject.KEPT_VARIANTS`) | its own |
| `data.dataset` | 8 data sets at a shape | one a data set |
| `codec.shelf` | 4,096 headers of trained models | its own |
| `Shipped._files` | the studies that ship of the zoo's models, as they are asked for | its own |
| `service.presets` | the figures that ship, and 128 digests of networks | `lru_cache` |
| the pages' `compressed`, `sizes` | 32 each | Streamlit's |
| `pages.components.trainings`, `students` | 256 each (`KEPT_TRAININGS`, `KEPT_SHRINKINGS`) | 6 |
| visitors | 10,000, with 100 sessions each (`visitors.VISITORS`, `SESSIONS`) | 4 |
| a session's trail and pins | 200 of a network (`state.TRAIL`), and 26 (`pins.MOST`) | one thread's |
"""
