//! The program as a whole, with real processes and file systems.

mod changes;
mod ends;
mod roots;
mod run;
mod served;
