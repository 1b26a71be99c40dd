//! Files on disk, on threads of their own: what is offered is read here, what is downloaded is written here.
//!
//! ```text
//!   walk      paths -> files to offer            sources   reading ranges of what is offered
//!   hash      files -> hash trees                receive   .part files, sync, rename
//! ```
//!
//! [`Files`] carries out the core's file commands. Reading and storing run on a few workers, several at a time and in any
//! order; what touches names and syncs runs on one other thread, in order, so that an fsync never holds up the network.
//! The core bounds how much is under way; every command is answered once.

mod hash;
mod receive;
mod sources;
mod walk;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use parking_lot::Mutex;

pub use hash::{HashProgress, Hashed, OutboardFolder, RootCache, hash_file, hash_files};
pub use receive::{Audit, DiskError, Download};
pub use sources::{Source, SourceFile, Sources};
pub use walk::{FileStamp, Found, Walk, WalkError, walk};

/// Workers that read, hash and write. Two keep disk and network busy; more only compete for the network's core.
const WORKERS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for blocking work. Dropping it waits for what is under way.
#[derive(Debug)]
pub struct Workers {
    quick: Option<mpsc::Sender<Job>>,
    orderly: Option<mpsc::Sender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts the threads.
    pub fn start() -> std::io::Result<Workers> {
        let (quick, quick_jobs) = mpsc::channel();
        let (orderly, orderly_jobs) = mpsc::channel();
        let quick_jobs = Arc::new(Mutex::new(quick_jobs));
        let mut threads = Vec::with_capacity(WORKERS + 1);
        for number in 0..WORKERS {
            threads.push(spawn(format!("rockpool-file{number}"), quick_jobs.clone())?);
        }
        threads.push(spawn("rockpool-disk".into(), Arc::new(Mutex::new(orderly_jobs)))?);
        Ok(Workers { quick: Some(quick), orderly: Some(orderly), threads })
    }

    /// Runs on any of the quick workers, in any order.
    pub fn quick(&self, job: impl FnOnce() + Send + 'static) {
        let _ = self.quick.as_ref().expect("taken by drop only").send(Box::new(job));
    }

    /// Runs after all that was given before.
    pub fn in_order(&self, job: impl FnOnce() + Send + 'static) {
        let _ = self.orderly.as_ref().expect("taken by drop only").send(Box::new(job));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        (self.quick, self.orderly) = (None, None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: String, jobs: Arc<Mutex<mpsc::Receiver<Job>>>) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        loop {
            // The lock is held while waiting: whoever holds it takes the next job, the others wait for the lock.
            let job = jobs.lock().recv();
            match job {
                Ok(job) => job(),
                Err(mpsc::RecvError) => return,
            }
        }
    })
}
