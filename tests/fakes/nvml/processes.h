/* Process lists: compute, graphics, MPS clients. */

/* One process by its place in the file; 0 after the last. */
static int process_at(int gpu, const char *kind, int place, Process *out)
{
    char key[LINE], value[LINE], used[LINE];
    snprintf(key, sizeof key, "%d.%s", gpu, kind);
    if (!find(key, place, value) || sscanf(value, "%u %s", &out->pid, used) != 2)
        return 0;
    out->used = strcmp(used, "na") == 0 ? ~0ULL : strtoull(used, NULL, 0);
    out->instance = out->compute = 0xffffffffu;
    return 1;
}

static int processes(const char *call, void *handle, const char *kind, unsigned *count, void *out, int v1)
{
    int gpu, code = enter_gpu(call, handle, "processes", &gpu);
    if (code)
        return code;
    Process process;
    unsigned there = 0;
    while (process_at(gpu, kind, (int)there, &process))
        there++;
    unsigned room = *count;
    *count = there;
    if (there > room)
        return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < there && out; i++) {
        process_at(gpu, kind, (int)i, &process);
        if (v1)
            ((ProcessV1 *)out)[i] = (ProcessV1){process.pid, process.used};
        else
            ((Process *)out)[i] = process;
    }
    return SUCCESS;
}

#define PROCESSES(name, kind, type, v1)                                        \
    API int name(void *handle, unsigned *count, type *out)                     \
    {                                                                          \
        return processes(#name, handle, kind, count, out, v1);                 \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses, "proc", ProcessV1, 1)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, "proc", Process, 0)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, "graphics_proc", ProcessV1, 1)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics_proc", Process, 0)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, "mps_proc", ProcessV1, 1)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, "mps_proc", Process, 0)
#ifndef QTOP_FAKE_OLD
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "proc", Process, 0)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics_proc", Process, 0)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps_proc", Process, 0)
#endif

typedef struct { unsigned pid; u64 at; unsigned sm, memory, encoder, decoder; } ProcessUse;
_Static_assert(sizeof(ProcessUse) == 32, "ABI");

API int nvmlDeviceGetProcessUtilization(void *handle, ProcessUse *out, unsigned *count, u64 since)
{
    int gpu, code = enter_gpu("nvmlDeviceGetProcessUtilization", handle, "process_util", &gpu);
    if (code)
        return code;
    u64 util = 0;
    Process process;
    unsigned there = 0;
    (void)since;
    if (in_mig_mode(gpu) || !gpu_number(gpu, "util", &util))
        return NOT_SUPPORTED;
    while (process_at(gpu, "proc", (int)there, &process))
        there++;
    if (!there)
        return NOT_FOUND;
    unsigned room = *count;
    *count = there;
    if (there > room || !out)
        return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < there; i++) { /* the first process does all the work, but for what the file says */
        char key[LINE];
        u64 sm = i ? 0 : util;
        process_at(gpu, "proc", (int)i, &process);
        snprintf(key, sizeof key, "proc_sm.%u", process.pid);
        gpu_number(gpu, key, &sm);
        out[i] = (ProcessUse){process.pid, (u64)time(NULL) * 1000000, (unsigned)sm, 0, 0, 0};
    }
    return SUCCESS;
}
