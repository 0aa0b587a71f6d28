//! The maths of the samplers against exact answers: data whose epsilon, probability flow and moments
//! are known in closed form.
//!
//! `orders.md` is the table that `ode_orders` and `sde_orders` measure.

mod director;
mod distilled;
mod gaussian;
mod inversion;
mod kernel;
mod laws;
mod mixture;
mod ode_orders;
mod order_table;
mod pace;
mod properties;
mod rows;
#[path = "../common/samplers.rs"]
mod samplers;
mod sde_orders;
