/* Readings. */

API int nvmlDeviceGetUtilizationRates(void *handle, Utilization *out)
{
    u64 util, mem_util = 0;
    int gpu, code = enter_gpu("nvmlDeviceGetUtilizationRates", handle, "util", &gpu);
    if (code)
        return code;
    if (in_mig_mode(gpu) || !gpu_number(gpu, "util", &util))
        return NOT_SUPPORTED;
    gpu_number(gpu, "mem_util", &mem_util);
    *out = (Utilization){(unsigned)util, (unsigned)mem_util};
    return SUCCESS;
}

static int memory_of(int gpu, MemoryV2 *out)
{
    if (!gpu_number(gpu, "mem_total", &out->total) || !gpu_number(gpu, "mem_used", &out->used))
        return NOT_SUPPORTED;
    out->reserved = 0;
    gpu_number(gpu, "mem_reserved", &out->reserved);
    out->free = out->total - out->used - out->reserved;
    return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo(void *handle, Memory *out)
{
    MemoryV2 all;
    int gpu, code = enter_gpu("nvmlDeviceGetMemoryInfo", handle, "memory", &gpu);
    if (code || (code = memory_of(gpu, &all)))
        return code;
    *out = (Memory){all.total, all.free, all.used + all.reserved};
    return SUCCESS;
}

API int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *out)
{
    return sensor == 0 ? get_unsigned("nvmlDeviceGetTemperature", handle, "temp", out) : INVALID_ARGUMENT;
}

API int nvmlDeviceGetPowerUsage(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetPowerUsage", handle, "power", out);
}

/* Ends of the locked range, if the clocks are locked. */
static int locked_of(int gpu, unsigned *low, unsigned *high)
{
    char value[LINE];
    return gpu_text(gpu, "locked_clocks", value) && sscanf(value, "%u %u", low, high) == 2;
}

API int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *out)
{
    if (type != 1 && type != 2)
        return INVALID_ARGUMENT;
    int code = get_unsigned("nvmlDeviceGetClockInfo", handle, type == 1 ? "sm_mhz" : "mem_mhz", out);
    unsigned low, high;
    if (code == SUCCESS && type == 1 && locked_of((int)((Device *)handle - devices), &low, &high))
        *out = *out < low ? low : *out > high ? high : *out;
    return code;
}

API int nvmlDeviceGetMaxClockInfo(void *handle, int type, unsigned *out)
{
    if (type != 1 && type != 2)
        return INVALID_ARGUMENT;
    return get_unsigned("nvmlDeviceGetMaxClockInfo", handle, type == 1 ? "sm_max_mhz" : "mem_max_mhz", out);
}

API int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, u64 *out)
{
    return get_u64("nvmlDeviceGetCurrentClocksThrottleReasons", handle, "reasons", out);
}

API int nvmlDeviceGetSupportedClocksThrottleReasons(void *handle, u64 *out)
{
    return get_u64("nvmlDeviceGetSupportedClocksThrottleReasons", handle, "reasons_supported", out);
}

API int nvmlDeviceGetCurrPcieLinkGeneration(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetCurrPcieLinkGeneration", handle, "pcie_gen", out);
}

API int nvmlDeviceGetCurrPcieLinkWidth(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetCurrPcieLinkWidth", handle, "pcie_width", out);
}

API int nvmlDeviceGetFieldValues(void *handle, int count, Field *fields)
{
    int gpu, code = enter_gpu("nvmlDeviceGetFieldValues", handle, "fields", &gpu);
    if (code)
        return code;
    if (count <= 0 || !fields)
        return INVALID_ARGUMENT;
    for (int i = 0; i < count; i++) {
        Field *field = &fields[i];
        char key[LINE];
        u64 value = 0, error = 0, type = 3;
        snprintf(key, sizeof key, "nvmlDeviceGetFieldValues %u", field->id);
        log_call(key);
        snprintf(key, sizeof key, "field.%u", field->id);
        int there = gpu_number(gpu, key, &value);
        snprintf(key, sizeof key, "error.field.%u", field->id);
        gpu_number(gpu, key, &error);
        snprintf(key, sizeof key, "field_type.%u", field->id);
        gpu_number(gpu, key, &type);
        field->code = error ? (int)error : there ? SUCCESS : NOT_SUPPORTED;
        if (field->code != SUCCESS)
            continue;
        field->type = (int)type;
        field->timestamp = (long long)time(NULL) * 1000000;
        field->value.ull = value;
        if (type == 0)
            field->value.d = (double)value;
    }
    return SUCCESS;
}

#ifndef QTOP_FAKE_OLD

API int nvmlDeviceGetMemoryInfo_v2(void *handle, MemoryV2 *out)
{
    int gpu, code = enter_gpu("nvmlDeviceGetMemoryInfo_v2", handle, "memory_v2", &gpu);
    if (code)
        return code;
    return out->version == (sizeof *out | 2u << 24) ? memory_of(gpu, out) : VERSION_MISMATCH;
}

API int nvmlDeviceGetTemperatureV(void *handle, TemperatureV1 *out)
{
    if (out->version != (sizeof *out | 1u << 24))
        return VERSION_MISMATCH;
    unsigned value;
    int code = get_unsigned("nvmlDeviceGetTemperatureV", handle, "temp", &value);
    if (code == SUCCESS)
        out->temperature = (int)value;
    return code;
}

API int nvmlDeviceGetCurrentClocksEventReasons(void *handle, u64 *out)
{
    return get_u64("nvmlDeviceGetCurrentClocksEventReasons", handle, "reasons", out);
}

API int nvmlDeviceGetSupportedClocksEventReasons(void *handle, u64 *out)
{
    return get_u64("nvmlDeviceGetSupportedClocksEventReasons", handle, "reasons_supported", out);
}

#endif
