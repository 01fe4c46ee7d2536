//! The bugs, one file each: first what happens in it, then the program.

mod controls;
mod d_cockroach_2448;
mod d_kubernetes_11298;
mod d_kubernetes_70277;
mod d_moby_27782;
mod d_moby_30408;
mod d_syncthing_5795;
mod futurelock;
mod golf;
mod l_etcd_7492;
mod l_grpc_1460;
mod l_kubernetes_10182;
mod l_kubernetes_26980;
mod l_kubernetes_6632;
mod l_moby_28462;
mod o_cockroach_10214;
mod o_cockroach_16167;
mod o_cockroach_9935;
mod o_etcd_10492;
mod o_etcd_6708;
mod o_kubernetes_30872;
mod o_moby_36114;
mod o_moby_4951;
mod pldi;
mod pools;
mod r_cockroach_1462;
mod r_cockroach_18101;
mod r_etcd_5509;
mod r_grpc_3017;
mod r_grpc_660;
mod r_grpc_795;
mod r_kubernetes_25331;
mod r_kubernetes_5316;
mod r_moby_4395;
mod r_moby_7559;
mod s_cockroach_10790;
mod s_cockroach_13197;
mod s_grpc_862;
mod uber;

use crate::Kernel;

/// All of them, by class and name.
pub fn all() -> impl Iterator<Item = &'static Kernel> {
    ALL.iter().copied()
}

const ALL: &[&Kernel] = &[
    &controls::COCKROACH_35501,
    &controls::ETCD_3077,
    &controls::GRPC_1687,
    &controls::GRPC_2371,
    &controls::ISTIO_8967,
    &controls::KUBERNETES_13058,
    &controls::KUBERNETES_70892,
    &controls::KUBERNETES_81148,
    &controls::SERVING_3068,
    &controls::SERVING_4908,
    &d_cockroach_2448::KERNEL,
    &d_kubernetes_11298::KERNEL,
    &d_kubernetes_70277::KERNEL,
    &d_moby_27782::KERNEL,
    &d_moby_30408::KERNEL,
    &d_syncthing_5795::KERNEL,
    &futurelock::BUFFERED,
    &futurelock::BY_REFERENCE,
    &futurelock::ROOM,
    &golf::CHANNEL,
    &golf::GROUP,
    &golf::HELD,
    &golf::MUTEX,
    &golf::RWLOCK,
    &l_etcd_7492::KERNEL,
    &l_grpc_1460::KERNEL,
    &l_kubernetes_10182::KERNEL,
    &l_kubernetes_26980::KERNEL,
    &l_kubernetes_6632::KERNEL,
    &l_moby_28462::KERNEL,
    &o_cockroach_10214::KERNEL,
    &o_cockroach_16167::KERNEL,
    &o_cockroach_9935::KERNEL,
    &o_etcd_10492::KERNEL,
    &o_etcd_6708::KERNEL,
    &o_kubernetes_30872::KERNEL,
    &o_moby_36114::KERNEL,
    &o_moby_4951::KERNEL,
    &pldi::CELL,
    &pldi::CROSSED,
    &pldi::DOUBLE_LOCK,
    &pldi::LAST_HOLDER,
    &pldi::LOST_NOTIFY,
    &pldi::ORDER,
    &pldi::READ_TWICE,
    &pldi::TWICE,
    &pools::ANTS_146,
    &pools::ANTS_197,
    &pools::ANTS_323,
    &pools::CONC_107,
    &pools::CONC_88,
    &pools::OWN_SLOT,
    &pools::POND_108,
    &pools::POND_135,
    &pools::POND_138,
    &pools::POND_56,
    &pools::POND_61,
    &pools::SUTURE_12,
    &pools::SUTURE_34,
    &pools::SUTURE_35,
    &pools::SUTURE_41,
    &pools::SUTURE_58,
    &pools::SUTURE_77,
    &r_cockroach_1462::KERNEL,
    &r_cockroach_18101::KERNEL,
    &r_etcd_5509::KERNEL,
    &r_grpc_3017::KERNEL,
    &r_grpc_660::KERNEL,
    &r_grpc_795::KERNEL,
    &r_kubernetes_25331::KERNEL,
    &r_kubernetes_5316::KERNEL,
    &r_moby_4395::KERNEL,
    &r_moby_7559::KERNEL,
    &s_cockroach_10790::KERNEL,
    &s_cockroach_13197::KERNEL,
    &s_grpc_862::KERNEL,
    &uber::CHANNEL_RANGE,
    &uber::CONTRACT,
    &uber::DOUBLE_SEND,
    &uber::EARLY_RETURN,
    &uber::N_CAST,
    &uber::TIMER,
    &uber::TIME_OUT,
];
