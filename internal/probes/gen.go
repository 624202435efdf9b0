package probes

// The generated objects are committed, so that building needs no clang; CI generates them again and compares.
//
//go:generate go tool bpf2go -tags linux -target amd64,arm64 -no-global-types -cc clang -cflags "-O2 -g -mcpu=v3 -Wall -Werror -Wno-unused-function" -type record -type config -type conn -type counter -type conn_state -type record_role -type record_kind -type record_protocol -type record_flags -type other -type operation -type slot -type chunked -type chunk_state -type chunk_word -type h2_word -type h2_place -type limits traffic ../../bpf/traffic.bpf.c -- -I../../bpf -idirafter /usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -tags linux -target amd64,arm64 -no-global-types -cc clang -cflags "-O2 -g -mcpu=v3 -Wall -Werror -Wno-unused-function" -type host_config -type latency -type tcp_health -type disk -type host_state -type host_limits host ../../bpf/host.bpf.c -- -I../../bpf -idirafter /usr/include/x86_64-linux-gnu
