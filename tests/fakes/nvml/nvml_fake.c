/* A libnvidia-ml.so.1 whose GPUs are lines of a text file: struct layouts, version checks and return codes as in nvml.h 13.
 *
 * QTOP_FAKE_NVML names the file; it is read again when it changes. A line is "key value"; '#' starts a comment line.
 *   count 2                   GPUs listed                     driver 580.159.03        driver version
 *   init_error 9              nvmlInit returns this           call_error 1             so does every other call
 *   log 1                     append each call's name to FILE.calls
 *   clock 12.5                seconds of the scenario; without this line they count since the file was written
 *   0.lost 1                  each call on GPU 0 returns GPU_IS_LOST; other codes may stand for 1 ("0.lost 16")
 *   0.slow 0.002              each call on GPU 0 takes so many seconds
 *   0.error.READING 3         this reading returns this code  0.hang.READING 2.5       and this one sleeps, seconds
 *   0.READING value           the reading: uuid name pci util mem_util mem_total mem_used mem_reserved temp power
 *                             power_limit power_limit_min power_limit_max power_limit_default sm_mhz mem_mhz sm_max_mhz
 *                             mem_max_mhz reasons reasons_supported pcie_gen pcie_width pcie_gen_max pcie_width_max
 *                             pcie_gen_device pstate arch compute ("9.0") bus_width slowdown shutdown margin mig
 *                             ecc_corrected ecc_uncorrected fan persistence
 *   0.field.74 123            a field value (0.error.field.74 3: its own return code; 0.field_type.74 1: its value type)
 *   0.proc 1234 1073741824    a compute process, once a line; "na" for memory that the driver will not tell;
 *                             0.graphics_proc and 0.mps_proc likewise
 *   0.proc_sm.1234 40         % of the SMs that this process takes; without such a line the first one takes all
 *   0.gpm.2 49                a GPM metric by id ("nan"; 0.error.gpm.2 3: its own code); one of them makes the GPU one with GPM
 *   0.samples 1               it has sample buffers, filled with what util and power were at each sample's time
 *   0.xid 79                  an Xid event for every event set, once
 * A number may move with the scenario's time: "ramp START PER_SECOND", "wave LOW HIGH PERIOD", "steps SECONDS A B C".
 * A line may count for a time only: "@5-10 0.proc 77 4096", "@20- 0.lost 1"; it goes before one without a time.
 * What the file does not say is NOT_SUPPORTED, but for uuid, name and pci, and an empty process list. On a GPU with
 * "mig 1" utilization, samples and GPM are NOT_SUPPORTED.
 * Errors and hangs also take the names handle, memory, memory_v2, processes, fields, constraints, power_set, locked_clocks,
 * persistence_set, gpm_support, gpm_sample, gpm_metrics, samples, events.
 * Setters write FILE.state ("0.power_limit 300000", "0.locked_clocks 210 1500"), which goes before FILE when read.
 * Built with -DQTOP_FAKE_OLD it lacks the functions that a driver of 2021 lacks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15,
    VERSION_MISMATCH = 25,
    UNKNOWN = 999,
};

#define MAX_GPUS 64
#define LINE 512
#define API __attribute__((visibility("default")))

typedef unsigned long long u64;
typedef struct { int index; } Device;

typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } MemoryV2;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; u64 used; unsigned instance, compute; } Process;
typedef struct { unsigned pid; u64 used; } ProcessV1;
typedef struct { unsigned version; int sensor; int temperature; } TemperatureV1;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} Pci;
typedef struct {
    unsigned id, scope;
    long long timestamp, latency_us;
    int type, code;
    union { double d; unsigned u; unsigned long ul; u64 ull; long long sll; int i; unsigned short us; } value;
} Field;

_Static_assert(sizeof(MemoryV2) == 40 && sizeof(Process) == 24 && sizeof(Pci) == 68 && sizeof(Field) == 40, "ABI");

static Device devices[MAX_GPUS];
static int users;

#include "scenario.h"

/* What every call goes through. */

static void log_call(const char *call)
{
    u64 on = 0;
    if (!number("log", &on) || !on)
        return;
    char path[LINE], line[LINE];
    path_of(path, ".calls");
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    int length = snprintf(line, sizeof line, "%s\n", call);
    if (write(fd, line, (size_t)length) != length)
        fputs("nvml_fake: the call log cannot be written\n", stderr);
    close(fd);
}

static int enter(const char *call)
{
    u64 code = SUCCESS;
    refresh_all();
    log_call(call);
    if (number("call_error", &code) && code)
        return (int)code;
    return users > 0 ? SUCCESS : UNINITIALIZED;
}

/* Checks of one reading of one GPU: loss, injected error, injected hang. */
static int enter_gpu(const char *call, void *handle, const char *reading, int *gpu)
{
    int code = enter(call);
    if (code)
        return code;
    Device *device = handle;
    if (device < devices || device >= devices + MAX_GPUS)
        return INVALID_ARGUMENT;
    *gpu = (int)(device - devices);
    char key[LINE], raw[LINE];
    snprintf(key, sizeof key, "hang.%s", reading);
    if (gpu_text(*gpu, key, raw) || gpu_text(*gpu, "slow", raw)) {
        double seconds = strtod(raw, NULL);
        struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
        while (nanosleep(&left, &left) != 0 && errno == EINTR)
            ;
    }
    u64 lost = 0, error = 0;
    if (gpu_number(*gpu, "lost", &lost) && lost)
        return lost == 1 ? GPU_IS_LOST : (int)lost;
    snprintf(key, sizeof key, "error.%s", reading);
    if (gpu_number(*gpu, key, &error) && error)
        return (int)error;
    return SUCCESS;
}

static int get_unsigned(const char *call, void *handle, const char *reading, unsigned *out)
{
    int gpu, code = enter_gpu(call, handle, reading, &gpu);
    if (code)
        return code;
    u64 value;
    if (!out)
        return INVALID_ARGUMENT;
    if (!gpu_number(gpu, reading, &value))
        return NOT_SUPPORTED;
    *out = (unsigned)value;
    return SUCCESS;
}

static int get_u64(const char *call, void *handle, const char *reading, u64 *out)
{
    int gpu, code = enter_gpu(call, handle, reading, &gpu);
    if (code)
        return code;
    if (!out)
        return INVALID_ARGUMENT;
    return gpu_number(gpu, reading, out) ? SUCCESS : NOT_SUPPORTED;
}

static int put(char *out, unsigned size, const char *value)
{
    if (strlen(value) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

/* Library. */

API int nvmlInitWithFlags(unsigned flags)
{
    u64 code = SUCCESS;
    (void)flags;
    refresh_all();
    log_call("nvmlInit");
    if (number("init_error", &code) && code)
        return (int)code;
    users++;
    return SUCCESS;
}

API int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API int nvmlInit(void) { return nvmlInitWithFlags(0); }

API int nvmlShutdown(void)
{
    log_call("nvmlShutdown");
    if (users <= 0)
        return UNINITIALIZED;
    users--;
    return SUCCESS;
}

API const char *nvmlErrorString(int code)
{
    switch (code) {
    case SUCCESS: return "The operation was successful";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case 8: return "Insufficient External Power";
    case 9: return "Driver Not Loaded";
    case 10: return "Timeout";
    case 11: return "Interrupt Request Issue";
    case 12: return "NVML Shared Library Not Found";
    case 13: return "Function Not Found";
    case 14: return "Corrupted infoROM";
    case GPU_IS_LOST: return "GPU is lost";
    case 16: return "GPU requires reset";
    case 17: return "The operating system has blocked the request";
    case 18: return "Driver/library version mismatch";
    case VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

API int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    char value[LINE];
    int code = enter("nvmlSystemGetDriverVersion");
    if (code)
        return code;
    return put(version, size, text("driver", value) ? value : "580.159.03");
}

API int nvmlDeviceGetCount_v2(unsigned *count)
{
    u64 value = 0;
    int code = enter("nvmlDeviceGetCount_v2");
    if (code)
        return code;
    number("count", &value);
    *count = value > MAX_GPUS ? MAX_GPUS : (unsigned)value;
    return SUCCESS;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    u64 count = 0;
    int gpu, code = enter("nvmlDeviceGetHandleByIndex_v2");
    if (code)
        return code;
    number("count", &count);
    if (index >= count || index >= MAX_GPUS || !handle)
        return INVALID_ARGUMENT;
    code = enter_gpu("handle", &devices[index], "handle", &gpu);
    if (code == SUCCESS)
        *handle = &devices[index];
    return code;
}

static int in_mig_mode(int gpu)
{
    u64 mig = 0;
    return gpu_number(gpu, "mig", &mig) && mig;
}

/* Identity. */

static void uuid_of(int gpu, char *value)
{
    if (!gpu_text(gpu, "uuid", value))
        snprintf(value, LINE, "GPU-00000000-0000-0000-0000-%012d", gpu);
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle)
{
    char value[LINE];
    u64 count = 0;
    int code = enter("nvmlDeviceGetHandleByUUID");
    if (code)
        return code;
    number("count", &count);
    for (unsigned index = 0; index < count && index < MAX_GPUS; index++) {
        uuid_of((int)index, value);
        if (strcmp(value, uuid) == 0)
            return nvmlDeviceGetHandleByIndex_v2(index, handle);
    }
    return NOT_FOUND;
}

API int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size)
{
    char value[LINE];
    int gpu, code = enter_gpu("nvmlDeviceGetUUID", handle, "uuid", &gpu);
    if (code)
        return code;
    uuid_of(gpu, value);
    return put(uuid, size, value);
}

API int nvmlDeviceGetIndex(void *handle, unsigned *index)
{
    int gpu, code = enter_gpu("nvmlDeviceGetIndex", handle, "index", &gpu);
    if (code == SUCCESS)
        *index = (unsigned)gpu;
    return code;
}

API int nvmlDeviceGetName(void *handle, char *name, unsigned size)
{
    char value[LINE];
    int gpu, code = enter_gpu("nvmlDeviceGetName", handle, "name", &gpu);
    if (code)
        return code;
    return put(name, size, gpu_text(gpu, "name", value) ? value : "NVIDIA H100 80GB HBM3");
}

API int nvmlDeviceGetPciInfo_v3(void *handle, Pci *pci)
{
    char value[LINE];
    int gpu, code = enter_gpu("nvmlDeviceGetPciInfo_v3", handle, "pci", &gpu);
    if (code)
        return code;
    if (!gpu_text(gpu, "pci", value))
        snprintf(value, sizeof value, "00000000:%02X:00.0", gpu + 1);
    memset(pci, 0, sizeof *pci);
    if (sscanf(value, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) != 3)
        return UNKNOWN;
    snprintf(pci->legacy, sizeof pci->legacy, "%04X:%02X:%02X.0", pci->domain & 0xffff, pci->bus & 0xff, pci->device & 0xff);
    return put(pci->bus_id, sizeof pci->bus_id, value);
}

#include "readings.h"
#include "processes.h"
#include "setters.h"
#include "gpm.h"
#include "events.h"
#include "more.h"
