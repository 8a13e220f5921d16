/* What does not change, and what other tools ask for. */

#define UNSIGNED(name, reading)                                                \
    API int name(void *handle, unsigned *out)                                  \
    {                                                                          \
        return get_unsigned(#name, handle, reading, out);                      \
    }

UNSIGNED(nvmlDeviceGetPerformanceState, "pstate")
UNSIGNED(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_gen_max")
UNSIGNED(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
UNSIGNED(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie_gen_device")
UNSIGNED(nvmlDeviceGetMemoryBusWidth, "bus_width")
UNSIGNED(nvmlDeviceGetArchitecture, "arch")
UNSIGNED(nvmlDeviceGetFanSpeed, "fan")
UNSIGNED(nvmlDeviceGetNumGpuCores, "cores")
UNSIGNED(nvmlDeviceGetDisplayMode, "display_mode")
UNSIGNED(nvmlDeviceGetDisplayActive, "display_active")
UNSIGNED(nvmlDeviceGetPersistenceMode, "persistence")
UNSIGNED(nvmlDeviceGetComputeMode, "compute_mode")
UNSIGNED(nvmlDeviceGetPcieReplayCounter, "field.94")

API int nvmlDeviceGetTemperatureThreshold(void *handle, int threshold, unsigned *out)
{
    static const char *const names[] = {"shutdown", "slowdown", "mem_max_temp", "gpu_max_temp"};
    if (threshold < 0 || threshold > 3)
        return INVALID_ARGUMENT;
    return get_unsigned("nvmlDeviceGetTemperatureThreshold", handle, names[threshold], out);
}

#ifndef QTOP_FAKE_OLD
typedef struct { unsigned version; int celsius; } Margin;

API int nvmlDeviceGetMarginTemperature(void *handle, Margin *out)
{
    if (out->version != (sizeof *out | 1u << 24))
        return VERSION_MISMATCH;
    unsigned value;
    int code = get_unsigned("nvmlDeviceGetMarginTemperature", handle, "margin", &value);
    if (code == SUCCESS)
        out->celsius = (int)value;
    return code;
}
#endif

API int nvmlDeviceGetTotalEccErrors(void *handle, int type, int counter, u64 *out)
{
    if (type < 0 || type > 1 || counter < 0 || counter > 1)
        return INVALID_ARGUMENT;
    return get_u64("nvmlDeviceGetTotalEccErrors", handle, type ? "ecc_uncorrected" : "ecc_corrected", out);
}

API int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *later)
{
    int code = get_unsigned("nvmlDeviceGetMigMode", handle, "mig", now);
    if (code == SUCCESS)
        *later = *now;
    return code;
}

API int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor)
{
    char raw[LINE];
    int gpu, code = enter_gpu("nvmlDeviceGetCudaComputeCapability", handle, "compute", &gpu);
    if (code)
        return code;
    return gpu_text(gpu, "compute", raw) && sscanf(raw, "%d.%d", major, minor) == 2 ? SUCCESS : NOT_SUPPORTED;
}

API int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    int code = enter("nvmlSystemGetCudaDriverVersion_v2");
    *version = 13000;
    return code;
}

API int nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

API int nvmlSystemGetNVMLVersion(char *version, unsigned size)
{
    int code = enter("nvmlSystemGetNVMLVersion");
    return code ? code : put(version, size, "13.580.159.03");
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **handle)
{
    u64 count = 0;
    Pci pci;
    int code = enter("nvmlDeviceGetHandleByPciBusId_v2");
    if (code)
        return code;
    number("count", &count);
    for (unsigned index = 0; index < count && index < MAX_GPUS; index++)
        if (nvmlDeviceGetPciInfo_v3(&devices[index], &pci) == SUCCESS && strcasecmp(pci.bus_id, bus_id) == 0)
            return nvmlDeviceGetHandleByIndex_v2(index, handle);
    return NOT_FOUND;
}

API int nvmlDeviceGetBAR1MemoryInfo(void *handle, Memory *out)
{
    int gpu, code = enter_gpu("nvmlDeviceGetBAR1MemoryInfo", handle, "bar1", &gpu);
    if (code)
        return code;
    if (!gpu_number(gpu, "bar1_total", &out->total))
        return NOT_SUPPORTED;
    out->used = 1 << 20;
    out->free = out->total - out->used;
    return SUCCESS;
}

static int coder(const char *call, void *handle, const char *reading, unsigned *use, unsigned *period)
{
    *period = 167000;
    return get_unsigned(call, handle, reading, use);
}

API int nvmlDeviceGetEncoderUtilization(void *handle, unsigned *use, unsigned *period)
{
    return coder("nvmlDeviceGetEncoderUtilization", handle, "encoder", use, period);
}

API int nvmlDeviceGetDecoderUtilization(void *handle, unsigned *use, unsigned *period)
{
    return coder("nvmlDeviceGetDecoderUtilization", handle, "decoder", use, period);
}

/* Blocks for 20 ms, as the real one does: nothing that draws may call it. */
API int nvmlDeviceGetPcieThroughput(void *handle, int counter, unsigned *out)
{
    struct timespec window = {0, 20000000};
    if (counter < 0 || counter > 1)
        return INVALID_ARGUMENT;
    nanosleep(&window, NULL);
    return get_unsigned("nvmlDeviceGetPcieThroughput", handle, counter ? "pcie_rx_kb" : "pcie_tx_kb", out);
}

API int nvmlDeviceGetTotalEnergyConsumption(void *handle, u64 *out)
{
    return get_u64("nvmlDeviceGetTotalEnergyConsumption", handle, "energy", out);
}

API int nvmlDeviceGetSerial(void *handle, char *serial, unsigned size)
{
    char value[LINE];
    int gpu, code = enter_gpu("nvmlDeviceGetSerial", handle, "serial", &gpu);
    if (code)
        return code;
    return gpu_text(gpu, "serial", value) ? put(serial, size, value) : NOT_SUPPORTED;
}

/* A GPU in MIG mode that has no instances yet. */
API int nvmlDeviceIsMigDeviceHandle(void *handle, unsigned *out)
{
    int gpu;
    *out = 0;
    return enter_gpu("nvmlDeviceIsMigDeviceHandle", handle, "mig_handle", &gpu);
}

API int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *out)
{
    int gpu, code = enter_gpu("nvmlDeviceGetMaxMigDeviceCount", handle, "mig_count", &gpu);
    *out = code == SUCCESS && in_mig_mode(gpu) ? 7 : 0;
    return code;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned place, void **out)
{
    int gpu, code = enter_gpu("nvmlDeviceGetMigDeviceHandleByIndex", handle, "mig_handle", &gpu);
    (void)place;
    (void)out;
    return code ? code : NOT_FOUND;
}

/* Windows only; the real one says so too. */
API int nvmlDeviceGetDriverModel_v2(void *handle, int *now, int *later)
{
    int gpu, code = enter_gpu("nvmlDeviceGetDriverModel_v2", handle, "driver_model", &gpu);
    (void)now;
    (void)later;
    return code ? code : NOT_SUPPORTED;
}

API int nvmlDeviceGetDriverModel(void *handle, int *now, int *later)
{
    return nvmlDeviceGetDriverModel_v2(handle, now, later);
}
