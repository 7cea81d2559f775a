//! The program as its users meet it: a process with arguments, standard streams, signals, sockets and an exit code.

mod answers;
mod author;
mod breakers;
mod chaos;
mod clients;
mod compile;
mod crashes;
mod edges;
mod folder;
mod interface;
mod kills;
mod letters;
mod outbox;
mod plugins;
mod pressure;
mod receiver;
mod receivers;
mod reloads;
mod secrets;
mod signals;
mod state;
mod topics;
